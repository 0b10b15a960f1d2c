"""Trainings killed at random moments, each resumed by its own command, end like one that nobody killed.

    RLCAP_SURVIVAL_KILLS=50 python -m pytest -s tests/survival/test_killed_at_random.py

is the campaign: 50 kills, dealt out to six trainings; `RLCAP_SURVIVAL_SEED` draws other moments. Without the variable
there are three kills, one of them of two processes.
"""

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import rlcap
from killing import Forked, Kill, Launched, Running, Timing, measured, run_until
from test_resume import arguments, assert_same

from rlcap.training import checkpoints

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("RLCAP_SURVIVAL_KILLS", "3"))
SEED = int(os.environ.get("RLCAP_SURVIVAL_SEED", "0"))
CASES = [("xe", 1), ("scst", 2), ("rank-dpo", 1), ("xe", 2), ("scst", 1), ("rank-dpo", 2)]

EVERY = {
    "max_steps": 10,  # the run ends in the middle of an epoch
    "learning_rate": 3e-3,
    "logging_steps": 1,
    "save_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "max_caption_length": 24,
}
OWN: dict[str, dict[str, Any]] = {
    "xe": {"captions_per_image": 2, "gradient_accumulation_steps": 2},
    "scst": {"num_samples": 3, "max_new_tokens": 10, "kl_beta": 0.1, "dataloader_num_workers": 1},
    "rank-dpo": {"reference": "stored", "xe_weight": 0.1},
}
BATCH = {1: 4, 2: 2}  # processes -> pictures of each


@pytest.mark.parametrize(("command", "processes"), CASES)
def test_killed(
    command: str, processes: int, scenes: Path, chains: Path, captioner_folder: Path, tmp_path: Path
) -> None:
    case = CASES.index((command, processes))
    kills = KILLS // len(CASES) + (case < KILLS % len(CASES))
    if not kills:
        pytest.skip("RLCAP_SURVIVAL_KILLS gives this training no kill")
    options = {**EVERY, **OWN[command], "per_device_train_batch_size": BATCH[processes]}
    data = chains if command == "rank-dpo" else scenes

    def start_in(run_dir: Path) -> Callable[[], Running]:
        given = [command, *arguments(data, captioner_folder, run_dir, options)]
        return lambda: (Forked if processes == 1 else Launched)(given, tmp_path)

    if processes == 1:
        rlcap(["--version"], tmp_path)  # the server imports the libraries at its first process: no part of a run
    timing = measured(start_in(tmp_path / "whole"), tmp_path / "whole")
    campaign(start_in, tmp_path, kills, timing, random.Random(f"{SEED} {command} {processes}"))


def campaign(
    start_in: Callable[[Path], Callable[[], Running]], folder: Path, kills: int, timing: Timing, rng: random.Random
) -> None:
    """Kills runs until there were enough kills; each run that comes to its end must be the whole one."""
    run_dir, killed, ended = folder / "killed", 0, 0
    while killed < kills or run_dir.exists():
        kill = Kill.draw(rng, timing) if killed < kills else None
        before = newest(run_dir)
        running = run_until(start_in(run_dir), run_dir, kill)
        assert went_on_from(running) in (before, None), "it must go on from the newest checkpoint"
        if running.code() == 0:
            assert went_on_from(running) == before
            assert_same(run_dir, folder / "whole")
            shutil.rmtree(run_dir)
            ended += 1
            continue
        killed += 1
        assert running.code() == -9, running.said()[-3000:]
        print(f"kill {killed}: {kill}; it had gone on from {before}, and left {newest(run_dir)}", flush=True)
    print(f"{killed} kills, {ended} runs that ended with the weights and metrics of the whole one", flush=True)


def newest(run_dir: Path) -> str | None:
    """The newest checkpoint of a run, which must be complete."""
    if not (found := checkpoints.checkpoints(run_dir)):
        return None
    assert checkpoints.damage(found[-1]) is None
    return found[-1].name


def went_on_from(running: Running) -> str | None:
    """The checkpoint that a start said it goes on from; a damaged one would have been named."""
    said = running.said()
    assert "is left aside" not in said
    found = re.search(r"going on from \S*(checkpoint-\d+)", said)
    return found[1] if found else None
