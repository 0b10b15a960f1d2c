"""Work on single items shared by the processes of a command, each of which has the results of all in the end."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from rlcap.launching import world

Item = TypeVar("Item")
Result = TypeVar("Result")

_LONGEST = timedelta(days=1)  # that ranks wait for each other


class Processes:
    """The processes that run this command: `number` of them, of which this is `rank`. One needs no process group.

    Several meet in a group of gloo, which is set up at the first work that they share (MASTER_ADDR, MASTER_PORT).
    """

    def __init__(self, rank: int = 0, number: int = 1) -> None:
        self.rank, self.number = rank, number

    @classmethod
    def of_launcher(cls) -> "Processes":
        """Those that torchrun, or another launcher, started."""
        return cls(world.rank(), world.size())

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def each(self, work: Callable[[Sequence[Item]], Iterable[Result]], items: Sequence[Item]) -> list[Result]:
        """The results of all items, in their order, on every process; each item is worked on by one of them.

        work: items -> a result for each. An error that it raises on one process is raised on all.
        """
        if self.number == 1:
            return list(work(items))
        own: Exception | None = None
        done: list[Result] | Exception
        try:
            done = list(work(items[self.rank :: self.number]))
        except Exception as error:
            own, done = error, _sent(error)
        parts: list[Any] = [None] * self.number
        _group().all_gather_object(parts, done)
        failed = next((part for part in parts if isinstance(part, Exception)), None)
        if failed is not None:
            raise own or failed
        results: list[Any] = [None] * len(items)
        for rank, part in enumerate(parts):
            results[rank :: self.number] = part
        return results


def _group() -> Any:
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_LONGEST)
    return dist


def _sent(error: Exception) -> Exception:
    """The error as other processes are told it: of a class that Python has, since others need not survive pickling."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")(str(error))
