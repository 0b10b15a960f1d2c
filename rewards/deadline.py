"""A time within which something must have answered, so that what hangs is named and does not hold up all processes."""

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 20.0  # seconds after which what cannot be interrupted (code without Python) ends the process


@contextmanager
def deadline(seconds: float | None, what: str) -> Iterator[None]:
    """Raises RuntimeError naming `what` where the block takes longer; None, and 0, wait for ever.

    Interrupts Python code and waiting (network, sleep) in the main thread by SIGALRM. Code that gives Python no turn
    cannot be interrupted: `GRACE` seconds later the process writes the stacks of its threads and exits with code 1. In
    other threads, and on Windows, nothing is watched. Blocks must not be nested.
    """
    watched = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not seconds or not watched:
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise RuntimeError(f"{what}: no answer within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    if sys.__stderr__ is not None:  # notebooks and tests put something that is no file in the place of sys.stderr
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
