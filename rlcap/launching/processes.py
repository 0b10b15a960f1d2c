"""Work on single items shared by the processes of a command, each of which has the results of all in the end."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from rlcap.launching import world

Item = TypeVar("Item")
Result = TypeVar("Result")

_TO_MEET = timedelta(minutes=10)  # that the first process waits for the last
_TO_WORK = timedelta(days=1)  # between two times that they meet
_ERRORS = {kind.__name__: kind for kind in (ValueError, FileNotFoundError, RuntimeError)}


class Processes:
    """The processes that run this command: `number` of them, of which this is `rank`.

    Several must be in a process group (`of_launcher`); one needs none.
    """

    def __init__(self, rank: int = 0, number: int = 1) -> None:
        self.rank, self.number = rank, number

    @classmethod
    def of_launcher(cls) -> "Processes":
        """Those that torchrun, or another launcher, started, in a group of gloo (MASTER_ADDR, MASTER_PORT).

        Each takes a GPU of its own, where there are any, as the current one.
        """
        if world.size() == 1:
            return cls()
        import torch
        import torch.distributed as dist

        if torch.cuda.is_available():
            torch.cuda.set_device(world.device(None))
        store, rank, number = next(dist.rendezvous("env://", timeout=_TO_MEET))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=number, timeout=_TO_WORK)
        return cls(rank, number)

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def gathered(self, value: Result) -> list[Result]:
        """The values of all processes, by rank. Raises ConnectionError where one of them is gone."""
        if self.number == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.number
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise ConnectionError(f"a process of this command has ended before the others: {error}") from error
        return values

    def each(self, work: Callable[[Sequence[Item]], Iterable[Result]], items: Sequence[Item]) -> list[Result]:
        """The results of all items, in their order, on every process; each item is worked on by one of them.

        work: items -> a result for each. An error that it raises is raised on all processes, that of the lowest rank
        where there are several; elsewhere than on its own as ValueError, FileNotFoundError or RuntimeError. Raises
        ConnectionError where a process is gone.
        """
        own: Exception | None = None
        done: list[Result] = []
        try:
            done = list(work(items[self.rank :: self.number]))
        except Exception as error:
            own = error
        parts = self.gathered((None if own is None else _told(own), done))
        for rank, (failed, _) in enumerate(parts):
            if failed is not None:
                raise own if own is not None and rank == self.rank else _ERRORS[failed[0]](failed[1])
        results: list[Any] = [None] * len(items)
        for rank, (_, part) in enumerate(parts):
            results[rank :: self.number] = part
        return results


def _told(error: Exception) -> tuple[str, str]:
    """What other processes are told of an error: most kinds do not survive pickling."""
    kind = next((name for name, kind in _ERRORS.items() if isinstance(error, kind)), "RuntimeError")
    return kind, str(error) or type(error).__name__
