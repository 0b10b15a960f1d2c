"""An exception on one of two ranks, wherever it comes from, ends both soon with that error; the checkpoint stays."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from launched import TORCHRUN, start
from test_resume import arguments

from rlcap.launching import workers
from rlcap.training import checkpoints

pytestmark = pytest.mark.slow
SECONDS = 30  # from the exception to the end of both ranks

# A reward of the user's, which also lets a data worker or the model fail: on the second rank, in the third batch.
FAULTY = """
import os
import time
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from captioners.base import Captioner
from rlcap.data.collate import VisualCollator

WHERE, FOLDER, RANK = os.environ["FAULT_IN"], Path(os.environ["FAULT_FOLDER"]), os.environ["RANK"]
calls = 0


def maybe_fail(where):
    global calls
    if where != WHERE or RANK != "1":
        return
    calls += 1
    if calls == 3:
        (FOLDER / "failed").write_text(str(time.time()))
        raise RuntimeError(f"something is wrong in the {where}")


def reward(completions, **columns):
    maybe_fail("reward")
    return [float(len(completion.split())) for completion in completions]


def collate(self, rows):
    assert get_worker_info() is not None
    maybe_fail("data worker")
    return collated(self, rows)


collated, VisualCollator.__call__ = VisualCollator.__call__, collate
torch.nn.modules.module.register_module_forward_pre_hook(
    lambda module, inputs: maybe_fail("model") if isinstance(module, Captioner) else None
)
"""


@pytest.mark.parametrize("where", ["reward", "data worker", "model"])
def test_both_ranks_end(where: str, scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    options = {"max_steps": 8, "per_device_train_batch_size": 2, "num_samples": 2, "max_new_tokens": 6}
    options |= {"save_steps": 1, "logging_steps": 1, "dataloader_num_workers": 1, "rewards": "faulty:reward"}
    command = ["scst", *arguments(scenes, captioner_folder, tmp_path / "run", options)]
    torchrun = [sys.executable, *TORCHRUN, "--standalone", "--nproc-per-node", 2, "-m", "rlcap", *command]
    found = ":".join([str(tmp_path), *filter(None, sys.path)])
    process = start(torchrun, tmp_path / "log", FAULT_IN=where, FAULT_FOLDER=tmp_path, PYTHONPATH=found)
    failed = tmp_path / "failed"
    while process.poll() is None and not (failed.exists() and not ranks(tmp_path / "run")):
        time.sleep(0.2)
    took = time.time() - float(failed.read_text())
    code = process.wait(900)  # torchrun's own end takes a while where the machine is busy
    said = (tmp_path / "log").read_text()
    assert f"RuntimeError: something is wrong in the {where}" in said, said[-3000:]
    assert code == 1
    assert took < SECONDS
    time.sleep(2 * workers.LOOK)  # data workers see that their rank is gone
    assert not ranks(tmp_path / "run")
    last = checkpoints.last_complete(tmp_path / "run")
    assert last is not None
    assert last.name in ("checkpoint-1", "checkpoint-2")


def ranks(run: Path) -> list[Path]:
    """The processes of a run, data workers among them, without their launcher."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended just now
            command = (process / "cmdline").read_text().split("\0")
            if str(run) in command and "torch.distributed.run" not in command:
                found.append(process)
    return found
