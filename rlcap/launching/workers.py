"""Data workers stay as long as their rank does: a signal to a whole job says nothing to them.

SLURM, systemd and `kill -- -GROUP` signal every process of a job. The rank then ends its step (stopping.py), for which
it needs its workers' batches; torch takes a worker that is gone for an error.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from rlcap.launching.stopping import SIGNALS

LOOK = 1.0  # seconds between looks at whether the rank is there
LEFT_TO_THE_RANK = {*SIGNALS, signal.SIGINT}


def stay_with_rank(worker: int, then: Callable[[int], None] | None = None) -> None:
    """The `worker_init_fn` of a DataLoader; `then`: another one, called after it.

    SIGTERM counts when it comes from the rank itself: so torch ends a worker that hangs. When the rank is gone, its
    worker goes within `LOOK` seconds.
    """
    rank = multiprocessing.parent_process()
    assert rank is not None
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_RANK)  # threads that the worker starts inherit it
    threading.Thread(target=_heed, args=[rank.pid, os.getppid()], daemon=True).start()
    if then is not None:
        then(worker)


def _heed(rank: int | None, parent: int) -> None:
    while os.getppid() == parent:
        told = signal.sigtimedwait(LEFT_TO_THE_RANK, LOOK)
        if told is not None and told.si_signo == signal.SIGTERM and told.si_pid == rank:
            break
    os._exit(0)
