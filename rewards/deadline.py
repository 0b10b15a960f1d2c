"""A time within which something must have answered, so that what hangs is named and does not hold up all processes."""

import concurrent.futures.thread  # noqa: F401, it registers its wait for pools
import faulthandler
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Generic, TypeVar

T = TypeVar("T")
LOOK = 1.0  # seconds between looks at whether what is waited for has passed its deadline, and between interruptions
GRACE = 20.0  # seconds after which what cannot be interrupted ends the process

_elsewhere: dict[int, tuple[float, str]] = {}  # thread -> until when, and what is said after that
_faulthandler = threading.Lock()  # its one timer is in use


class _Late(BaseException):
    """The time is over. A reward's `except Exception` does not catch it."""


@contextmanager
def deadline(seconds: float | None, what: str) -> Iterator[None]:
    """Raises RuntimeError naming `what` where the block takes longer; None, and 0, wait for ever.

    Interrupts Python code and waiting (network, sleep) in the main thread by SIGALRM, each second until it is left.
    Another thread cannot be interrupted: whoever waits for it calls `check`, as Pending does. A block that holds up the
    process, or its end, for `GRACE` seconds more ends it with code 1; the stacks of its threads are written, and
    `what`, but for code that gives Python no turn. Blocks of a thread must not be nested.
    """
    if not seconds:
        yield
        return
    said = f"{what}: no answer within {seconds:g} seconds"
    until = time.monotonic() + seconds
    interrupts = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    with _ending(seconds, said, holds_main=interrupts), (_interrupting if interrupts else _noted)(seconds, said):
        yield
    if time.monotonic() > until:
        raise RuntimeError(said)


def check(thread: int) -> None:
    """Raises RuntimeError where what a thread runs has passed its deadline."""
    until, said = _elsewhere.get(thread, (math.inf, ""))
    if time.monotonic() > until:
        raise RuntimeError(said)


class Pending(Generic[T]):
    """What another thread will have done."""

    def __init__(self, future: "Future[T]", thread: int) -> None:
        self._future, self._thread = future, thread

    def __call__(self) -> T:
        """The result, or the error. Raises RuntimeError where what runs has passed its deadline."""
        while not wait([self._future], timeout=LOOK).done:
            check(self._thread)
        return self._future.result()


def in_thread(work: Callable[[], T], name: str) -> Pending[T]:
    """Has `work` done in a thread of its own, which does not hold up the end of the process."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # it is raised where the result is asked for
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    assert thread.ident is not None
    return Pending(future, thread.ident)


@contextmanager
def _interrupting(seconds: float, said: str) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, LOOK)
    try:
        yield
    except _Late:
        raise RuntimeError(said) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _noted(seconds: float, said: str) -> Iterator[None]:
    own = threading.get_ident()
    _elsewhere[own] = time.monotonic() + seconds, said
    try:
        yield
    finally:
        del _elsewhere[own]


@contextmanager
def _ending(seconds: float, said: str, *, holds_main: bool) -> Iterator[None]:
    """Ends the process where the block holds it up `GRACE` seconds after its time.

    holds_main: in the main thread it does so now; in another one at Python's end alone (`_end_late`).
    """
    left = threading.Event()
    with ExitStack() as armed:
        # Code that gives Python no turn holds up `watch` too. Notebooks and tests put something that is no file in the
        # place of sys.stderr.
        if sys.__stderr__ is not None and _faulthandler.acquire(blocking=False):
            armed.callback(_faulthandler.release)
            faulthandler.dump_traceback_later(seconds + GRACE + LOOK, exit=True, file=sys.__stderr__)
            armed.callback(faulthandler.cancel_dump_traceback_later)

        def watch() -> None:
            if left.wait(seconds):
                return
            if not holds_main:
                armed.close()  # Python has its turns
            elif not left.wait(GRACE):
                _end(said)

        threading.Thread(target=watch, daemon=True, name="rlcap-deadline").start()
        try:
            yield
        finally:
            left.set()


def _end_late() -> None:
    """At Python's end, which waits for pools of threads that a reward may have started: for `GRACE` seconds."""
    for until, said in [*_elsewhere.values()]:
        if time.monotonic() > until:
            timer = threading.Timer(GRACE, _end, [said])
            timer.daemon = True
            timer.start()


# As concurrent.futures does to wait for its pools; what is registered later runs earlier.
threading._register_atexit(_end_late)  # type: ignore[attr-defined]


def _end(said: str) -> None:
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback(file=sys.__stderr__)
        print(f"{said}, and it cannot be interrupted: the process ends", file=sys.__stderr__, flush=True)
    os._exit(1)
