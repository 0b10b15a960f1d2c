"""The end of a process group, on every way out of a command.

torch 2.15's gloo aborts at exit in about one run of six where a rank tears down while another still talks to it, so
ranks that end together meet first. A rank that fails must not wait for the others: one of them may be gone.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rlcap.launching.stopping import Stopped

T = TypeVar("T")

PATIENCE = 20.0  # seconds that a failed rank may take to leave: a pending collective can hold it up for ever


@contextmanager
def torn_down() -> Iterator[None]:
    """Destroys the process group that the block has set up, if any: after a barrier, or at once on an error."""
    try:
        yield
    except Stopped:  # all ranks stop at the same step
        _leave()
        raise
    except BaseException as error:
        _flee(error)
        raise
    _leave()


def by_first(look: Callable[[], T]) -> T:
    """What `look` finds on the first rank, on all of them: what it raises there they raise too, as ValueError.

    Without a process group it is called here.
    """
    if not _set_up():
        return look()
    import torch.distributed as dist

    own: Exception | None = None
    found: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            found[0] = look()
        except Exception as error:
            own, found[1] = error, str(error)
    dist.broadcast_object_list(found)
    if found[1] is not None:
        raise own or ValueError(found[1])
    return found[0]


def _set_up() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _leave() -> None:
    if _set_up():
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()


def _flee(error: BaseException) -> None:
    if not _set_up():
        return
    import torch.distributed as dist

    def give_up() -> None:
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(PATIENCE, give_up)
    timer.daemon = True
    timer.start()
    dist.destroy_process_group()
    timer.cancel()
