"""What a scheduler says before it takes the machine away, and how a training that was told so ends.

SIGTERM      Kubernetes, SLURM's preemption, `kill`: a checkpoint is due; a second one ends the process at once
SIGUSR1      SLURM's `--signal`: the same, as often as it comes

The exit code is 128 + the signal's number (143, 138), as a shell reports a process that the signal itself has ended. So
a training that was told before its first step, and one that was told in the middle, end alike: to be started again.
"""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SAME = 5.0  # seconds in which a second SIGTERM is the first one, come by another way (launcher, process group)


def listen() -> None:
    """Takes back that SIGUSR1 is ignored, which launch/node.sh hands down: before the first step it ends a process."""
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


class Stopped(SystemExit):
    """A training has written its checkpoint and ends because it was told to, on all ranks at the same step."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class Notice:
    """Listens to SIGNALS within a `with` block of the main thread; elsewhere, as in a notebook's thread, it hears none.

    number: of the first signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._told_at: float | None = None  # of the first SIGTERM
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Notice":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if number != signal.SIGTERM:
            return
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
        elif now - self._told_at > SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
