"""NaN and infinity: the batch is written down, and the run stops, or goes on without it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Recorder, picture_dataset
from test_captioner_trainer import xe_trainer
from test_scst import K, scst_trainer
from tiny import tiny_encoder_decoder

from rlcap.objectives.reduction import Total


class WrongAt:
    """A reward that is NaN for one picture."""

    __name__ = "wrong_at"
    needs = frozenset({"image_id"})

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id

    def __call__(self, completions: list[str], *, image_id: list[str], **columns: Any) -> list[float]:
        lengths = [float(len(text) % 5) for text in completions]
        return [math.nan if own == self.image_id else n for n, own in zip(lengths, image_id, strict=True)]


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "not_finite/rank_0.jsonl").read_text().splitlines()]


def test_a_reward_that_is_nan_stops_the_run_and_leaves_its_batch(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 6)
    name = dataset["image_id"][0]
    trainer = scst_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", WrongAt(name))
    with pytest.raises(ValueError, match=rf"wrong_at: returned nan for the picture '{name}'.*rank_0.jsonl"):
        trainer.train()
    (line,) = written(tmp_path / "run")
    assert name in [picture["image_id"] for picture in line["rows"]]
    assert all(len(picture["samples"]) == K and picture["references"] for picture in line["rows"])


@pytest.mark.parametrize("updates", [1, 2])
def test_as_many_as_are_allowed_are_skipped(updates: int, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 6)
    name = dataset["image_id"][0]
    options = {"max_steps": 2 * updates, "num_iterations": updates, "max_not_finite": 1}  # one epoch
    captioner = tiny_encoder_decoder()
    before = [parameter.clone() for parameter in captioner.parameters()]
    trainer = scst_trainer(captioner, dataset, tmp_path / "run", WrongAt(name), **options)
    trainer.train()
    assert trainer.skipped.count == len(written(tmp_path / "run")) == 1
    after = list(captioner.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))  # the other batch taught it


def test_a_skipped_batch_teaches_nothing(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 3)
    captioner = tiny_encoder_decoder()
    before = [parameter.clone() for parameter in captioner.parameters()]
    options = {"max_steps": 1, "max_not_finite": 5, "weight_decay": 0.0}
    scst_trainer(captioner, dataset, tmp_path / "run", WrongAt(dataset["image_id"][0]), **options).train()
    assert all(torch.equal(a, b) for a, b in zip(before, captioner.parameters(), strict=True))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_and_a_gradient(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = xe_trainer(tiny_encoder_decoder(), picture_dataset(tmp_path, 8), tmp_path / "run", Recorder())
    loss_of = trainer.batch_loss

    def broken(model: Any, batch: Any) -> dict[str, Total]:
        good = loss_of(model, batch)["loss"]
        # The square root of 0 is finite, its slope is not.
        wrong = good.total * torch.nan if where == "loss" else (good.total * 0).sqrt()
        return {"loss": Total(good.total + wrong, good.count)}

    monkeypatch.setattr(trainer, "batch_loss", broken)
    before = [parameter.clone() for parameter in trainer.captioner.parameters()]
    with pytest.raises(ValueError, match=f"the {where} is (nan|NaN).* at step 0; the batch is the last line of"):
        trainer.train()
    assert len(written(tmp_path / "run")[0]["rows"]) == 4
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.captioner.parameters(), strict=True))


def test_how_many_were_skipped_is_in_the_checkpoint(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 6)
    name = dataset["image_id"][0]
    options = {"max_not_finite": 1, "save_strategy": "steps", "save_steps": 2}
    scst_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", WrongAt(name), max_steps=2, **options).train()
    again = scst_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", WrongAt(name), max_steps=4, **options)
    with pytest.raises(ValueError, match=r"1 were skipped before \(max_not_finite\)"):
        again.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-2"))


def test_a_full_gpu_is_told_with_the_settings_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = picture_dataset(tmp_path, 6)
    trainer = scst_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", WrongAt(""))

    def full(model: Any, batch: Any) -> Total:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(trainer, "batch_loss", full)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        trainer.train()
    assert raised.value.__notes__ == [
        "rlcap: the GPU's memory is full. Lower one of per_device_train_batch_size (3), num_samples (4), "
        "max_new_tokens (8)"
    ]
