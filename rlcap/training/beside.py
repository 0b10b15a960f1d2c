"""Work that goes on beside the main thread: rewards of one micro-batch while the next one is sampled."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

import torch

from rewards import deadline

T = TypeVar("T")
LOOK = 1.0  # seconds between looks at whether what is waited for has passed its deadline


class Beside:
    """One thread that does what it is given, one after the other. It does not hold up the end of the process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._work: queue.SimpleQueue[tuple[Future, Callable]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], T]) -> "Pending[T]":
        """Has `work` done, without autocast and with gradient on, as a new thread starts."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="rlcap-rewards")
            self._thread.start()
        future: Future[T] = Future()
        self._work.put((future, work))
        assert self._thread.ident is not None
        return Pending(future, self._thread.ident)

    def _run(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # each thread has a device of its own
        while True:
            future, work = self._work.get()
            try:
                future.set_result(work())
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)


class Pending(Generic[T]):
    """What will have been done."""

    def __init__(self, future: "Future[T]", thread: int) -> None:
        self._future, self._thread = future, thread

    def __call__(self) -> T:
        """The result, or the error. Raises RuntimeError where what runs has passed its `rewards.deadline`."""
        while not wait([self._future], timeout=LOOK).done:
            deadline.check(self._thread)
        return self._future.result()
