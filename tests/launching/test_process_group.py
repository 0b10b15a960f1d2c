"""The end of a process group: together where all is well, at once where a rank fails."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from launched import LAUNCH, TORCHRUN, environment

from rlcap.launching import process_group
from rlcap.launching.process_group import torn_down

SCRIPT = """
import torch, torch.distributed as dist
from rlcap.launching.process_group import torn_down
from rlcap.launching.stopping import Stopped
try:
    with torn_down():
        dist.init_process_group("gloo")
        dist.barrier()
        HOW
finally:
    print("gone" if not dist.is_initialized() else "still there", flush=True)
"""
HOW = {
    "well": "pass",
    "stopped": "raise Stopped(15)",
    "error": """if dist.get_rank() == 1:
            raise ValueError("rank 1 is wrong")
        dist.all_reduce(torch.zeros(1))  # with a rank that does not come""",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_two_ranks(how: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("HOW", HOW[how]))
    path = os.pathsep.join([str(LAUNCH.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "--standalone", "--nproc-per-node", "2", str(tmp_path / "script.py")],
        env=environment(PYTHONPATH=path),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.count("gone") == 2, done.stderr
    assert done.returncode == (0 if how == "well" else 1), done.stderr
    codes = set(re.findall(r"exitcode  : (\S+)", done.stderr)) - {
        "-15"
    }  # torchrun may end the second before it has left
    if how == "stopped":
        assert codes == {"143"}
    if how == "error":  # the other rank's connection is closed, and both say why they end
        assert codes == {"1"}
        assert "[rank1]: ValueError: rank 1 is wrong" in done.stderr
        assert "[rank0]: RuntimeError" in done.stderr


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
