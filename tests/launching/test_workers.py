"""Data workers, signalled as SLURM does it: they go on, and end when their rank says so or is gone."""

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import Moment
from datasets import Dataset
from test_resume import XE, Chain, assert_same
from torch.utils.data import DataLoader, get_worker_info

import captioners
from captioners.types import GenerationSettings
from rlcap.captioning import caption_all
from rlcap.chain_scoring import score_chains
from rlcap.data import load_captions, load_chains
from rlcap.data.collate import VisualCollator
from rlcap.launching.workers import LEFT_TO_THE_RANK, stay_with_rank
from rlcap.training.training_rows import TrainingRows
from rlcap.training.xe import XEArguments


def signalled(rows: Any) -> Any:
    """The rows, after their worker has been sent every signal by neither itself nor its rank."""
    assert get_worker_info() is not None
    for number in LEFT_TO_THE_RANK:
        subprocess.run(["kill", f"-{int(number)}", str(os.getpid())], check=True)
    return rows


def seeded(folder: Path, worker: int) -> None:
    (folder / str(worker)).touch()


def test_a_worker_goes_on_and_is_made_ready_as_before(tmp_path: Path) -> None:
    ready = partial(stay_with_rank, then=partial(seeded, tmp_path))
    loader: Any = DataLoader(list(range(6)), collate_fn=signalled, num_workers=2, worker_init_fn=ready)
    assert [rows for (rows,) in loader] == list(range(6))
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_the_rank_itself_can_end_a_worker(tmp_path: Path) -> None:
    """As torch does it where one hangs."""

    def hang(rows: Any) -> Any:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(600)

    batches: Any = iter(DataLoader([0], collate_fn=hang, num_workers=1, worker_init_fn=stay_with_rank))
    (worker,) = batches._workers
    while not (tmp_path / str(worker.pid)).exists():
        time.sleep(0.01)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_loops_over_pictures(
    scenes: Path, chains: Path, captioner_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collated = VisualCollator.__call__
    monkeypatch.setattr(VisualCollator, "__call__", lambda self, rows: collated(self, signalled(rows)))
    captioner = captioners.load(captioner_folder)
    shown: dict[str, Any] = {"batch_size": 4, "workers": 1, "max_bad_images": 0.0}
    pictures = load_captions(scenes).select(range(8))
    assert len(caption_all(captioner, pictures, GenerationSettings(), features=None, bar=False, **shown)) == 8
    rows = load_chains(chains).select(range(8))
    assert len(list(score_chains(captioner, rows, max_caption_length=None, bar=None, **shown))) == 8


def test_a_ranks_part_of_each_batch(tmp_path: Path) -> None:
    args = XEArguments(output_dir=str(tmp_path), use_cpu=True, dataloader_num_workers=1, per_device_train_batch_size=2)
    rows = Dataset.from_dict({"image_id": ["a", "b", "c", "d"]})
    loader = TrainingRows(rows, args).loader(rows, range(4), signalled)
    assert sorted(row["image_id"] for batch in loader for row in batch) == ["a", "b", "c", "d"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_whole_job_told_to_stop(number: int, scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    chain = Chain("xe", {**XE, "dataloader_num_workers": 1}, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    told = chain.tell(Moment("os.rename", "/checkpoint-3 ", 1, number, to_all=True), 128 + number)
    assert "the checkpoint of step 4 is written" in told.out
    told = chain.tell(Moment("open", r"metrics\.jsonl a", 1, number, to_all=True), 128 + number)  # at step 5
    assert "the checkpoint of step 6 is written" in told.out
    chain.finish()
    assert_same(chain.killed, chain.whole)
