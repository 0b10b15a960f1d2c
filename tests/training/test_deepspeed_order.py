"""DeepSpeed's order of a step: clipping, optimiser and zeroing happen inside `backward`, where we can do nothing after.

What calls our code is accelerate's own wrapper of DeepSpeed's engine; the engine, which needs a GPU, is played by its
order of calls on whole weights. That DeepSpeed itself keeps to it is for `benchmarks/sharded_gpu.py` to show.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import DeepSpeedEngineWrapper
from small import picture_dataset
from test_captioner_trainer import Forgetful, xe_trainer
from test_scst import Noted, scst_trainer
from tiny import favour_end, tiny_encoder_decoder
from transformers import TrainerCallback

from rlcap.objectives.reduction import Total


class Engine:
    """What deepspeed.DeepSpeedEngine does of a step, in its order, in fp32 and on one rank."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, clip: float) -> None:
        self.model, self.optimizer, self.clip = model, optimizer, clip
        self.norm: torch.Tensor | None = None
        self.boundary = False
        self.steps = 0

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        self.boundary = is_boundary

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool = True) -> None:
        assert not scale_wrt_gas  # or it would divide by the number of micro-batches
        loss.backward()

    def step(self) -> None:
        assert self.boundary
        self.norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.steps += 1
        self.optimizer.zero_grad(set_to_none=True)

    def get_global_grad_norm(self) -> torch.Tensor | None:
        return self.norm


class ByDeepSpeed(TrainerCallback):
    """From the start of the training on, accelerate takes the steps as under DeepSpeed."""

    def __init__(self, trainer: Any, clip: float) -> None:
        self.trainer, self.clip = trainer, clip

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        accelerator = self.trainer.accelerator
        engine = Engine(self.trainer.model, self.trainer.optimizer.optimizer, self.clip)
        # The second is where the first is read again and again.
        accelerator.state.distributed_type = DistributedType.DEEPSPEED
        PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
        accelerator.state.deepspeed_plugins = SimpleNamespace(deepspeed_config={}, zero_stage=2)  # fp32
        accelerator.deepspeed_engine_wrapped = DeepSpeedEngineWrapper(engine)


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group, without which nothing is under DeepSpeed; afterwards accelerate forgets what it was told."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)


def by_deepspeed(trainer: Any, clip: float = 0.05) -> Any:
    trainer.add_callback(ByDeepSpeed(trainer, clip))
    return trainer


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_weights_are_those_of_other_engines(micro_batches: int, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 8)
    found = []
    for name in ("plain", "deepspeed"):
        captioner = tiny_encoder_decoder()
        favour_end(captioner)
        options = {"baseline": "beam_mean", "kl_beta": 0.5, "xe_weight": 0.3, "max_grad_norm": 0.05, "optim": "sgd"}
        options |= {"per_device_train_batch_size": 4 // micro_batches, "gradient_accumulation_steps": micro_batches}
        trainer = scst_trainer(
            captioner, dataset, tmp_path / name, Noted(), learning_rate=0.3, logging_steps=1, **options
        )
        (by_deepspeed(trainer) if name == "deepspeed" else trainer).train()
        found.append(captioner.state_dict())
    assert trainer.accelerator.deepspeed_engine_wrapped.engine.steps == 2
    start = tiny_encoder_decoder().state_dict()
    assert max(float((start[name] - tensor).abs().max()) for name, tensor in found[0].items()) > 1e-4
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=0, atol=1e-7)


@pytest.mark.usefixtures("one_rank")
def test_a_parameter_without_gradient_is_named(tmp_path: Path) -> None:
    tiny = tiny_encoder_decoder()
    captioner = Forgetful(tiny.model, tiny.codec.tokenizer, tiny.preprocessor.processor)
    trainer = by_deepspeed(xe_trainer(captioner, picture_dataset(tmp_path, 4), tmp_path / "run"))
    with pytest.raises(ValueError, match=r"2 parameters should train and got no gradient: model\.encoder\.pooler"):
        trainer.train()


@pytest.mark.usefixtures("one_rank")
def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = xe_trainer(tiny_encoder_decoder(), picture_dataset(tmp_path, 8), tmp_path / "run", max_not_finite=9)
    loss_of = by_deepspeed(trainer).batch_loss

    def broken(model: Any, batch: Any) -> dict[str, Total]:
        good = loss_of(model, batch)["loss"]
        return {"loss": Total(good.total + (good.total * 0).sqrt(), good.count)}  # its slope is not finite

    monkeypatch.setattr(trainer, "batch_loss", broken)
    with pytest.raises(ValueError, match="DeepSpeed has moved the weights by it"):
        trainer.train()
    assert (tmp_path / "run/not_finite/rank_0.jsonl").is_file()
