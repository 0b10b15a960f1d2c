"""The end of a process group: together where all is well, at once where a rank fails."""

import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rlcap.launching import process_group
from rlcap.launching.process_group import torn_down
from rlcap.launching.stopping import Stopped


def _work(rank: int, folder: str, how: str) -> None:
    started = time.monotonic()
    try:
        with torn_down():
            dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
            dist.barrier()  # the rank that fails does not leave while the other one still connects to it
            if how == "stopped":
                raise Stopped(15)
            if how == "error" and rank == 1:
                raise ValueError("rank 1 is wrong")
            if how == "error":
                dist.all_reduce(torch.zeros(1))  # with a rank that does not come
    except BaseException as error:
        told = f"{type(error).__name__} {error}"
    else:
        told = "well"
    late = time.monotonic() - started > 15
    Path(folder, str(rank)).write_text(f"{told}{' late' if late else ''}{' up' if dist.is_initialized() else ''}")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["well", "stopped", "error"])
def test_two_ranks(how: str, tmp_path: Path) -> None:
    mp.spawn(_work, (str(tmp_path), how), nprocs=2)
    told = [Path(tmp_path, rank).read_text() for rank in "01"]
    if how == "error":
        assert told[1] == "ValueError rank 1 is wrong"
        assert told[0].startswith(("RuntimeError", "DistBackendError"))  # the connection is closed
        assert not told[0].endswith(("late", "up"))
    else:
        assert told == [{"well": "well", "stopped": "Stopped 143"}[how]] * 2


def _held_up(rank: int, folder: str) -> None:
    process_group.PATIENCE = 0.1
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=1)
    dist.destroy_process_group = lambda: time.sleep(60)
    with torn_down():
        raise ValueError("what was wrong")


def test_a_rank_that_cannot_leave_says_why_and_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(mp.ProcessExitedException) as ended:
        mp.spawn(_held_up, (str(tmp_path),), nprocs=1)
    assert ended.value.exit_code == 1
    assert "ValueError: what was wrong" in capfd.readouterr().err


def test_without_a_process_group_nothing_is_done() -> None:
    with torn_down():
        pass
    with pytest.raises(ValueError, match="as it was"), torn_down():
        raise ValueError("as it was")
