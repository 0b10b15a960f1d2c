"""What the trainers of learned rewards share: NaN stops them at once, and a kill takes nothing that was there."""

import json
from pathlib import Path
from typing import Any

import pytest
import text_encoders
import torch
from torch import Tensor

from rewards.grammar_model import GrammarModel, GrammarSettings
from rlcap.tracking.run_directory import read_metrics
from rlcap.training import checkpoints, reward_trainer
from rlcap.training.grammar import Corpus, GrammarArguments, GrammarTrainer

CAPTIONS = [
    f"a {size} {colour} {shape}" for size in ("small", "large") for colour in ("red", "blue") for shape in "abcd"
]


def trainer_of(folder: Path, output: Path, **options: Any) -> GrammarTrainer:
    fixed = {"data": "captions", "encoder": str(folder), "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    fixed |= {"eval_strategy": "no", "save_strategy": "steps", "save_steps": 5, "lr_scheduler_type": "constant"}
    fixed |= {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "seed": 1}
    args = GrammarArguments(output_dir=str(output), **{**fixed, **options})
    torch.manual_seed(0)
    model = GrammarModel.create(folder, GrammarSettings("tiny", width=8))
    return GrammarTrainer(model, args, Corpus.of(CAPTIONS))


def train(*where: Path, **options: Any) -> None:
    reward_trainer.train(trainer_of(*where, **options), "reward grammar")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoders.bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_and_a_gradient_that_are_nan(
    where: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(encoder, tmp_path / "run", max_steps=6, save_steps=2)
    loss_of = trainer.compute_loss

    def broken(*given: Any, **options: Any) -> Tensor:
        good = loss_of(*given, **options)
        if trainer.state.global_step < 3:
            return good
        # The square root of 0 is finite, its slope is not.
        return good + (good * torch.nan if where == "loss" else (good * 0).sqrt())

    monkeypatch.setattr(trainer, "compute_loss", broken)
    with pytest.raises(ValueError, match=f"the {where} is (nan|NaN).*at step 3; the batch is the last line of"):
        reward_trainer.train(trainer, "reward grammar")
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "run")] == ["checkpoint-2"]
    assert checkpoints.damage(tmp_path / "run" / "checkpoint-2") is None
    (line,) = (tmp_path / "run" / "not_finite" / "rank_0.jsonl").read_text().splitlines()
    rows = json.loads(line)["rows"]
    assert len(rows) == 8  # four captions, real and broken
    assert sum(row["caption"] in CAPTIONS for row in rows) == 4


def test_weights_that_are_nan_are_no_checkpoint(encoder: Path, tmp_path: Path) -> None:
    trainer = trainer_of(encoder, tmp_path / "run", max_steps=1, save_steps=1, learning_rate=float("inf"))
    with pytest.raises(ValueError, match=r"2 weights are NaN or infinite after step 1: head\.0\.weight"):
        reward_trainer.train(trainer, "reward grammar")
    assert not checkpoints.checkpoints(tmp_path / "run")
    assert not (tmp_path / "run" / "final").exists()


def test_a_resume_logs_what_came_before_it(encoder: Path, tmp_path: Path) -> None:
    train(encoder, tmp_path / "whole", max_steps=8, logging_steps=4)
    train(encoder, tmp_path / "parts", max_steps=5, logging_steps=4)
    train(encoder, tmp_path / "parts", max_steps=8, logging_steps=4)
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert [line["step"] for line in whole] == [4, 8]
    assert parts == whole


def test_a_kill_before_a_checkpoint_is_complete_leaves_the_one_before(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, done = checkpoints.mark_complete, []

    def killed(directory: Path) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(directory)
        complete(directory)

    monkeypatch.setattr(checkpoints, "mark_complete", killed)
    with pytest.raises(KeyboardInterrupt):
        train(encoder, tmp_path / "run", max_steps=4, save_steps=2, save_total_limit=1)
    left = checkpoints.last_complete(tmp_path / "run")
    assert left is not None
    assert left.name == "checkpoint-2"
    monkeypatch.undo()
    train(encoder, tmp_path / "run", max_steps=4, save_steps=2, save_total_limit=1)
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == ["checkpoint-4", "final"]


def test_a_full_gpu_is_told_with_the_settings_to_lower(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(encoder, tmp_path / "run", max_steps=1)

    def full(*given: Any, **options: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(trainer, "compute_loss", full)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        reward_trainer.train(trainer, "reward grammar")
    assert raised.value.__notes__ == ["rlcap: the GPU's memory is full. Lower one of per_device_train_batch_size (4)"]
