"""SCST from sharded weights (FSDP2 on two gloo processes) against the same two processes with whole weights each."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from chains import chain_dataset, ranking_trainer
from datasets import Dataset
from ranks import on_ranks
from small import picture_dataset
from test_scst import Noted, scst_trainer
from tiny import favour_end, tiny_encoder_decoder
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

import captioners

pytestmark = pytest.mark.slow
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "learning_rate": 0.1,
    "adam_epsilon": 0.1,  # Adam with a state to save, which does not make much of rounding errors
    "max_steps": 2,
    "max_grad_norm": 0.5,
    "max_new_tokens": 12,
    "kl_beta": 0.5,
    "xe_weight": 0.3,
    "logging_strategy": "steps",
    "logging_steps": 1,
    "ddp_find_unused_parameters": False,
}


def shard_on_the_cpu() -> None:
    """Makes of accelerate's state what it is under FSDP2 on GPUs; on a CPU accelerate leaves FSDP out."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", state_dict_type="SHARDED_STATE_DICT"
    )
    theirs = AcceleratorState.__init__

    def ours(self: AcceleratorState, *what: Any, **options: Any) -> None:
        theirs(self, *what, **options)
        self.fsdp_plugin = plugin
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = ours  # type: ignore[method-assign]


def trainer_of(folder: Path, name: str, **options: Any) -> Any:
    dataset = Dataset.load_from_disk(str(folder / "rows"))
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    return scst_trainer(captioner, dataset, folder / name, Noted(), **{**SETTINGS, **options})


def train(rank: int, folder: Path, name: str) -> None:
    if name == "sharded":
        shard_on_the_cpu()
    val = Dataset.load_from_disk(str(folder / "rows")).select(range(5))  # three pictures on one rank, two on the other
    options = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 1, "eval_num_beams": 2}
    options |= {"save_strategy": "steps", "save_steps": 1, "eval_max_new_tokens": 12, "val": val}
    trainer = trainer_of(folder, name, **options)
    trainer.train()
    trainer.save_captioner(folder / name / "final")
    if name == "sharded":
        assert isinstance(trainer.captioner, FSDPModule)
        assert all(isinstance(p, DTensor) for p in trainer.captioner.parameters())
        layers = [type(m).__name__ for m in trainer.captioner.modules() if isinstance(m, FSDPModule)]
        assert any("GPT2Block" in layer for layer in layers)
        again = trainer_of(folder, name, **options)
        again.train(resume_from_checkpoint=str(folder / name / "checkpoint-1"))
        again.save_captioner(folder / name / "resumed")
    lines = [line for line in trainer.state.log_history if "loss" in line]
    lines = [{key: v for key, v in line.items() if "time" not in key} for line in lines]
    calls = trainer.rewarder.functions[0].calls
    torch.save({"lines": lines, "ids": [call["ids"] for call in calls]}, folder / f"{name}-{rank}.pt")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return captioners.load(folder).state_dict()


def test_a_run_is_that_of_whole_weights(tmp_path: Path) -> None:
    picture_dataset(tmp_path, 8).save_to_disk(tmp_path / "rows")
    for name in ("whole", "sharded"):
        on_ranks(train, tmp_path, name)
    longest = []
    for rank in (0, 1):
        whole, sharded = (
            torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=False) for name in ("whole", "sharded")
        )
        assert sharded["ids"] == whole["ids"]  # token for token, in both steps
        longest.append([max(map(len, ids)) for ids in whole["ids"]])
        for expected, found in zip(whole["lines"], sharded["lines"], strict=True):
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert longest[0] != longest[1]  # one rank goes on while the other has all its captions
    captions = [tmp_path / name / "captions" / "eval-000002.json" for name in ("whole", "sharded")]
    assert captions[0].read_text() == captions[1].read_text()
    start, expected = tiny_encoder_decoder().state_dict(), weights(tmp_path / "whole" / "final")
    for name in ("final", "best", "checkpoint-2"):
        found = weights(tmp_path / "sharded" / name)
        for parameter, tensor in expected.items():
            torch.testing.assert_close(found[parameter], tensor, rtol=0, atol=1e-5)
    assert any((start[parameter] - tensor).abs().max() > 1e-3 for parameter, tensor in expected.items())
    resumed, final = weights(tmp_path / "sharded" / "resumed"), weights(tmp_path / "sharded" / "final")
    assert all(tensor.equal(final[parameter]) for parameter, tensor in resumed.items())


class NaNOnce(Noted):
    """Not finite on one rank, in its first micro-batch."""

    def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        values = super().__call__(completions, **columns)
        wrong = torch.distributed.get_rank() == 1 and len(self.calls) == 1
        return [float("nan") for _ in values] if wrong else values


def train_with_gaps(rank: int, folder: Path) -> None:
    shard_on_the_cpu()
    dataset = Dataset.load_from_disk(str(folder / "rows"))
    for name, options in {
        "frozen": {"freeze": ["vision", "connector"], "baseline": "greedy", "gradient_accumulation_steps": 2},
        "updates": {"num_iterations": 2, "baseline": "beam_mean", "max_steps": 4, "temperature": 1.0},
    }.items():
        captioner = tiny_encoder_decoder()
        favour_end(captioner)
        settings = {**SETTINGS, "max_bad_images": 1.0, "max_not_finite": 2, **options, "per_device_train_batch_size": 1}
        trainer = scst_trainer(captioner, dataset, folder / name, NaNOnce(), **settings)
        trainer.train()
        trainer.save_captioner(folder / name / "final")
        assert trainer.state.global_step == settings["max_steps"]
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        found = {"skipped": trainer.skipped.count, "bad": len(trainer.training_rows.bad_images.bad), "losses": losses}
        torch.save(found, folder / f"{name}-{rank}.pt")


def test_what_one_rank_leaves_out_all_leave_out(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 8)
    Path(dataset[6]["image"]).write_text("no picture")
    dataset.save_to_disk(tmp_path / "rows")
    on_ranks(train_with_gaps, tmp_path)
    for name in ("frozen", "updates"):
        assert all(tensor.isfinite().all() for tensor in weights(tmp_path / name / "final").values())
        ranks = [torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1)]
        assert [rank["skipped"] for rank in ranks] == [0, 1]
        assert any(ranks[0]["losses"])
        if name == "frozen":  # whose two steps are an epoch
            assert sum(rank["bad"] for rank in ranks) == 1


REFERENCES = ("frozen_copy", "stored", "adapters_off")


def rank_chains(rank: int, folder: Path, name: str) -> None:
    if name == "sharded":
        shard_on_the_cpu()
    chains = Dataset.load_from_disk(str(folder / "chains"))
    for reference in REFERENCES:
        lora = {"lora_parts": ["decoder"], "lora_rank": 2, "freeze": ["vision", "connector"]}
        options: dict[str, Any] = {"reference": reference, **(lora if reference == "adapters_off" else {})}
        options |= {"per_device_train_batch_size": 2, "learning_rate": 0.1, "adam_epsilon": 0.1, "max_grad_norm": 0.5}
        options |= {"eval_strategy": "steps", "eval_steps": 2, "val": chains.select(range(5))}
        options |= {"ddp_find_unused_parameters": False}
        trainer = ranking_trainer(tiny_encoder_decoder(), chains, folder / name / reference, **options)
        trainer.train()
        trainer.save_captioner(folder / name / reference / "final")
        torch.save([known(line) for line in trainer.state.log_history], folder / f"{name}-{reference}-{rank}.pt")


def known(line: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {key: v for key, v in line.items() if not any(w in key for w in ("time", "second", "flos"))}


def test_ranking_is_that_of_whole_weights_under_every_reference(tmp_path: Path) -> None:
    chain_dataset(tmp_path, 8).save_to_disk(tmp_path / "chains")
    for name in ("whole", "sharded"):
        on_ranks(rank_chains, tmp_path, name)
    for reference in REFERENCES:
        for rank in (0, 1):
            whole, sharded = (torch.load(tmp_path / f"{name}-{reference}-{rank}.pt") for name in ("whole", "sharded"))
            assert sum("rewards/margin_best_worst" in line for line in whole) == 2
            assert sum("eval/assessment/kendall_tau" in line for line in whole) == 1
            for expected, found in zip(whole, sharded, strict=True):
                assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
        expected, found = (weights(tmp_path / name / reference / "final") for name in ("whole", "sharded"))
        for parameter, tensor in expected.items():
            torch.testing.assert_close(found[parameter], tensor, rtol=0, atol=1e-5)
