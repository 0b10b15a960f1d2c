"""What happens on one rank alone does not bring the others out of step."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from ranks import on_ranks
from small import Recorder, picture_dataset
from test_captioner_trainer import xe_trainer
from test_scst import Noted, scst_trainer
from tiny import tiny_blip, tiny_encoder_decoder

from rlcap.objectives.reduction import Total


def nan_on_the_first(rank: int, folder: Path) -> None:
    recorder = Recorder()
    trainer = xe_trainer(
        tiny_blip(), Dataset.load_from_disk(str(folder / "rows")), folder / "run", recorder, max_not_finite=1
    )
    loss_of: Any = trainer.batch_loss

    def broken(model: Any, batch: Any) -> dict[str, Total]:
        good = loss_of(model, batch)["loss"]
        wrong = torch.nan if rank == 0 and trainer.state.global_step == 0 else 1.0
        return {"loss": Total(good.total * wrong, good.count)}

    trainer.batch_loss = broken  # type: ignore[method-assign]
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.skipped.count == (1 if rank == 0 else 0)
    torch.save({"gradients": recorder.gradients, "weights": trainer.captioner.state_dict()}, folder / f"{rank}.pt")


def test_a_loss_that_is_nan_on_one_rank(tmp_path: Path) -> None:
    """BLIP has buffers, which DDP may send with each forward; the rank that skips has one forward more."""
    picture_dataset(tmp_path, 16).save_to_disk(tmp_path / "rows")
    on_ranks(nan_on_the_first, tmp_path, seconds=120)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert len(first["gradients"]) == len(second["gradients"]) == 2
    for one, other in zip(
        [*first["gradients"], first["weights"]], [*second["gradients"], second["weights"]], strict=True
    ):
        assert all(tensor.isfinite().all() and tensor.equal(other[name]) for name, tensor in one.items())
    assert any(gradient.any() for gradient in first["gradients"][0].values())  # what the other rank has learned


def sample_one_picture(rank: int, folder: Path, name: str) -> None:
    """Every row is the same picture, and the captioner stays as it is."""
    row = Dataset.load_from_disk(str(folder / "rows"))[0]
    rows = Dataset.from_list([{**row, "image_id": str(n)} for n in range(12)])
    options: dict[str, Any] = {"learning_rate": 0.0, "lr_scheduler_type": "constant", "temperature": 1.0}
    trainer = scst_trainer(tiny_encoder_decoder(), rows, folder / name, Noted(), **options)
    trainer.train()
    torch.save([call["ids"] for call in trainer.rewarder.functions[0].calls], folder / f"{name}-{rank}.pt")


def test_ranks_draw_other_captions_of_the_same_picture_and_the_same_ones_again(tmp_path: Path) -> None:
    picture_dataset(tmp_path, 1).save_to_disk(tmp_path / "rows")
    for name in ("first", "again"):
        on_ranks(sample_one_picture, tmp_path, name)
    first, again = (
        [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=False) for rank in (0, 1)]
        for name in ("first", "again")
    )
    assert first == again
    steps = [*first[0], *first[1]]
    assert len(steps) == 4
    assert all(one != other for k, one in enumerate(steps) for other in steps[:k])
