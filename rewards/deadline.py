"""A time within which something must have answered, so that what hangs is named and does not hold up all processes."""

import faulthandler
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 20.0  # seconds after which what cannot be interrupted (code without Python) ends the process

_elsewhere: dict[int, tuple[float, str]] = {}  # thread -> until when, and what is said after that


@contextmanager
def deadline(seconds: float | None, what: str) -> Iterator[None]:
    """Raises RuntimeError naming `what` where the block takes longer; None, and 0, wait for ever.

    Interrupts Python code and waiting (network, sleep) in the main thread by SIGALRM. Code that gives Python no turn
    cannot be interrupted: `GRACE` seconds later the process writes the stacks of its threads and exits with code 1.
    Another thread cannot be interrupted: whoever waits for it calls `check`. Blocks must not be nested.
    """
    if not seconds:
        yield
        return
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        own = threading.get_ident()
        _elsewhere[own] = time.monotonic() + seconds, _late(what, seconds)
        try:
            yield
        finally:
            del _elsewhere[own]
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise RuntimeError(_late(what, seconds))

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


def check(thread: int) -> None:
    """Raises RuntimeError where what a thread runs has passed its deadline."""
    until, said = _elsewhere.get(thread, (math.inf, ""))
    if time.monotonic() > until:
        raise RuntimeError(said)


def _late(what: str, seconds: float) -> str:
    return f"{what}: no answer within {seconds:g} seconds"
