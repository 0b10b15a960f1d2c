"""Commands that are killed from outside, by SIGKILL and with everything that they have started, at a drawn moment."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import commands
from launched import TORCHRUN, environment

from rlcap.training import checkpoints

FEWEST = 0.05  # seconds; a run that has just been started has nothing to lose yet


class Running(Protocol):
    """A command that runs, or has ended."""

    def code(self) -> int | None: ...
    def kill(self) -> None: ...
    def said(self) -> str: ...


class Forked:
    """One process, forked from a server that has imported the libraries."""

    def __init__(self, arguments: list[Any], folder: Path) -> None:
        self._folder = folder
        for name in ("stdout.txt", "stderr.txt"):
            (folder / name).write_text("")  # a start that is killed at once must not seem to have said what others did
        self._process = commands.start(arguments, folder)

    def code(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            pid = self._process.pid
            assert pid is not None
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not come as far as its own group
                os.kill(pid, signal.SIGKILL)
        self._process.join()

    def said(self) -> str:
        return "".join((self._folder / name).read_text() for name in ("stdout.txt", "stderr.txt"))


class Launched:
    """Two processes under torchrun, as a user starts them."""

    def __init__(self, arguments: list[Any], folder: Path) -> None:
        self._log = folder / "log.txt"
        command = [sys.executable, *TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "rlcap"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *map(str, arguments)], env=environment(), stdout=log, stderr=log, start_new_session=True
            )

    def code(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        # torchrun first, so that it does not act on the end of its ranks; each of those has a session of its own.
        for pid in [self._process.pid, *descendants(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def said(self) -> str:
        return self._log.read_text()


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [own for child in map(int, listed) for own in (child, *descendants(child))]


@dataclass
class Timing:
    """How long a whole run, and a checkpoint of it, took: what moments are drawn from."""

    run: float
    saving: float


@dataclass(frozen=True)
class Kill:
    """A moment: `after` seconds from the start, or from the beginning of the `checkpoint`-th checkpoint (0: start)."""

    checkpoint: int
    after: float

    @classmethod
    def draw(cls, rng: random.Random, timing: Timing) -> "Kill":
        """Half of them anywhere in a run, half of them while, or shortly after, a checkpoint is written."""
        if rng.random() < 0.5:
            return cls(0, rng.uniform(FEWEST, timing.run))
        return cls(rng.randint(1, 3), rng.uniform(0, 1.5 * timing.saving))

    def __str__(self) -> str:
        since = f"into checkpoint {self.checkpoint} of this start" if self.checkpoint else "from the start"
        return f"{self.after:.3f} s {since}"


def run_until(start: Callable[[], Running], run_dir: Path, kill: Kill | None, limit: float = 900) -> Running:
    """Starts a command and kills it at that moment; without one, or where it ends before, waits for its end."""
    running, started = start(), time.monotonic()
    seen, since, was_saving = 0, started, True  # what an earlier kill has left is no beginning
    while running.code() is None:
        now = time.monotonic()
        assert now - started < limit, running.said()[-3000:]
        saving = (run_dir / checkpoints.SAVING).exists()
        if saving and not was_saving:
            seen, since = seen + 1, now if kill is not None and seen + 1 == kill.checkpoint else since
        was_saving = saving
        if kill is not None and seen >= kill.checkpoint and now - since >= kill.after:
            running.kill()
            break
        time.sleep(0.004)
    return running


def measured(start: Callable[[], Running], run_dir: Path) -> Timing:
    """Runs a command to its end, and measures it. AssertionError with what it said where it fails."""
    started, savings, began = time.monotonic(), [], 0.0
    running = start()
    while running.code() is None:
        saving = (run_dir / checkpoints.SAVING).exists()
        if saving and not began:
            began = time.monotonic()
        elif began and not saving:
            savings.append(time.monotonic() - began)
            began = 0.0
        time.sleep(0.004)
    assert running.code() == 0, running.said()[-3000:]
    return Timing(time.monotonic() - started, max(savings))
