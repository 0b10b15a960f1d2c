"""What a trainer of one's own keeps in a checkpoint comes back, and the run ends as if it had not been interrupted."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from small import picture_dataset
from tiny import tiny_encoder_decoder
from torch import Tensor

from rlcap.objectives.reduction import Total
from rlcap.training import checkpoints
from rlcap.training.xe import XEArguments, XETrainer


class Remembering(XETrainer):
    """Weighs a loss by what it has seen before: a tensor for each picture, and the order of the pictures."""

    def __init__(self, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **options)
        self.weights = torch.ones(6)
        self.order: list[str] = []

    def batch_loss(self, model: torch.nn.Module, batch: dict[str, Any]) -> dict[str, Total]:
        loss = super().batch_loss(model, batch)["loss"]
        seen = [row["image_id"] for row in batch["rows"]]
        weight = self.weights[[int(name) for name in seen]].mean() + len(self.order)
        self.weights[[int(name) for name in seen]] *= 0.7
        self.order += seen
        return {"loss": Total(loss.total * weight, loss.count)}

    def checkpoint_state(self) -> dict[str, Any]:
        return {**super().checkpoint_state(), "weights": self.weights, "order": self.order}

    def restore_state(self, state: dict[str, Any]) -> None:
        super().restore_state(state)
        self.weights, self.order = state["weights"], state["order"]


class Forgetful(Remembering):
    """The same, but for taking it back."""

    def restore_state(self, state: dict[str, Any]) -> None:
        XETrainer.restore_state(self, state)


def trained(
    trainer_class: type[XETrainer], folder: Path, pictures: Path, steps: int, resume: bool = False, **options: Any
) -> XETrainer:
    args = XEArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_caption_length=24,
        save_steps=2,
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    rows = picture_dataset(pictures, 6)
    trainer = trainer_class(tiny_encoder_decoder(), args, rows, rows if options else None)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2") if resume else None)
    return trainer


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(tensor.equal(other[name]) for name, tensor in one.items())


def test_a_trainers_own_state_survives(tmp_path: Path) -> None:
    whole = trained(Remembering, tmp_path / "whole", tmp_path, 4)
    begun = trained(Remembering, tmp_path / "again", tmp_path, 2)
    weights, order = begun.weights.clone(), copy.copy(begun.order)
    forgetful = trained(Forgetful, tmp_path / "again", tmp_path, 4, resume=True)
    again = trained(Remembering, tmp_path / "again", tmp_path, 4, resume=True)
    state = checkpoints.read_state(tmp_path / "again" / "checkpoint-2", 0)
    assert state["weights"].equal(weights)
    assert state["order"] == order
    assert again.order == whole.order
    assert again.weights.equal(whole.weights)
    assert same(again.captioner.state_dict(), whole.captioner.state_dict())
    assert not same(forgetful.captioner.state_dict(), whole.captioner.state_dict())


class Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_the_best_checkpoint_is_recorded_where_it_will_be(tmp_path: Path) -> None:
    """A state that names a folder that is gone, as those of earlier versions do, is read without a word on it."""
    pytest.importorskip("pycocoevalcap", reason="evaluation needs pycocoevalcap: pip install 'rlcap[coco]'")
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "eval_num_beams": 1, "eval_max_new_tokens": 8}
    begun = trained(XETrainer, tmp_path / "run", tmp_path, 2, **evaluated)
    folder = tmp_path / "run" / "checkpoint-2"
    state = json.loads((folder / "trainer_state.json").read_text())
    assert (state["best_global_step"], state["best_model_checkpoint"]) == (2, str(folder))
    assert checkpoints.damage(folder) is None

    state["best_model_checkpoint"] = str(tmp_path / "run" / checkpoints.SAVING / "checkpoint-2")
    (folder / "trainer_state.json").write_text(json.dumps(state))
    said = Said()
    logging.getLogger("transformers.trainer").addHandler(said)
    again = trained(XETrainer, tmp_path / "run", tmp_path, 4, resume=True, **evaluated)
    logging.getLogger("transformers.trainer").removeHandler(said)
    assert not [line for line in said.lines if "best checkpoint" in line]
    assert begun.best["step"] == 2
    assert again.best["step"] == (4 if again.best["value"] > begun.best["value"] else 2)
    assert again.state.best_metric == again.best["value"]


def test_its_tensors_are_checksummed_with_the_checkpoint(tmp_path: Path) -> None:
    trained(Remembering, tmp_path / "run", tmp_path, 2)
    folder = tmp_path / "run" / "checkpoint-2"
    assert checkpoints.damage(folder) is None
    tensors = folder / "rlcap_state_0.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
    assert checkpoints.damage(folder) == "rlcap_state_0.safetensors is not as it was written"


def test_another_number_of_processes_is_told(tmp_path: Path) -> None:
    for rank in range(2):
        checkpoints.write_state(tmp_path, rank, {"rank": rank, "tensor": torch.full((3,), rank)})
    for number in (1, 3):
        with pytest.raises(ValueError, match=r"was written by 2 process\(es\): go on with as many"):
            checkpoints.require_processes(tmp_path, number)
    checkpoints.require_processes(tmp_path, 2)
    assert checkpoints.read_state(tmp_path, 1)["tensor"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"was written by 2 process\(es\): go on with as many"):
        checkpoints.read_state(tmp_path, 2)
    with pytest.raises(TypeError, match="Tensor is not JSON serializable"):
        checkpoints.write_state(tmp_path, 0, {"inside": [torch.ones(1)]})
