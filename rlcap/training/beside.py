"""Work that goes on beside the main thread: rewards of one micro-batch while the next one is sampled."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch

from rewards.deadline import Pending

T = TypeVar("T")


class Beside:
    """One thread that does what it is given, one after the other. It does not hold up the end of the process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._work: queue.SimpleQueue[tuple[Future, Callable]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], T]) -> Pending[T]:
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
