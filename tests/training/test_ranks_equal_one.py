"""SCST on two processes with half the batch each, in micro-batches or not, equals one process with the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from ranks import on_ranks
from small import Recorder, picture_dataset
from test_scst import scst_trainer
from tiny import favour_end, tiny_encoder_decoder

# Beams are not drawn: the same captions whichever rank looks at a picture. They end at different lengths.
# Plain gradient steps: Adam makes as much of a rounding error as of a gradient.
SETTINGS: dict[str, Any] = {"baseline": "beam_mean", "max_steps": 2, "learning_rate": 0.3, "optim": "sgd"}
LOGGED: dict[str, Any] = {"logging_strategy": "steps", "logging_steps": 1, "kl_beta": 0.7, "xe_weight": 0.3}
CASES: dict[str, dict[str, Any]] = {
    "tokens": {},
    "captions": {"loss_normalization": "sequence", "scale_rewards": True},
    "updates": {"num_iterations": 2},
    "order": {"objective": "plackett_luce", "kl_beta": 0.2},
    # Seven pictures are steps of four and three. Five to caption are three on one rank and two on the other.
    "uneven": {"rows": 7, "reward_aggregation": "group_normalized", "max_steps": 4, "eval_strategy": "steps"},
}


class Length:
    """A reward that knows nothing but the tokens."""

    __name__ = "length"
    needs = frozenset({"completion_ids"})

    def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        return [sum(ids) % 7 / 3 - len(ids) / 5 for ids in columns["completion_ids"]]


class Words:
    """Another one, for rewards that are normalised one by one."""

    __name__ = "words"
    needs: frozenset[str] = frozenset()

    def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        return [float(len(set(text.split()))) for text in completions]


BATCHES = {"tokens": [(4, 1), (2, 2)], "captions": [(2, 2)], "updates": [(2, 2)], "order": [(2, 2)], "uneven": [(2, 1)]}


def trained(dataset: Dataset, folder: Path, size: int, micro_batches: int, **options: Any) -> dict[str, Any]:
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    recorder = Recorder()
    settings = {**SETTINGS, **LOGGED, "per_device_train_batch_size": size, **options}
    settings |= {"gradient_accumulation_steps": micro_batches, "ddp_find_unused_parameters": False}
    if "eval_strategy" in options:
        settings |= {"eval_steps": 2, "val": dataset.select(range(5)), "eval_functions": [Words()]}
        settings |= {"eval_max_new_tokens": 8, "per_device_eval_batch_size": 2, "eval_num_beams": 2}
    dataset = dataset.select(range(settings.pop("rows", len(dataset))))
    trainer = scst_trainer(captioner, dataset, folder, [Length(), Words()], recorder, **settings)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line or "time/evaluate" in line]
    return {
        "gradients": [{name.removeprefix("module."): g for name, g in of.items()} for of in recorder.gradients],
        "lines": [{name: v for name, v in line.items() if "time" not in name} for line in lines],
        "captions": [path.read_text() for path in sorted((folder / "captions").glob("eval-0*.json"))],
    }


def of_rank(rank: int, folder: Path) -> None:
    dataset = Dataset.load_from_disk(str(folder / "rows"))
    for name, options in CASES.items():
        for size, micro_batches in BATCHES[name]:
            found = trained(dataset, folder / f"{name}-{size}", size, micro_batches, **options)
            torch.save(found, folder / f"{name}-{size}-{rank}.pt")


@pytest.mark.slow
def test_gradients_and_metrics(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 8)
    dataset.save_to_disk(tmp_path / "rows")
    on_ranks(of_rank, tmp_path)
    for name, options in CASES.items():
        alone = trained(dataset, tmp_path / name, 4 if name == "uneven" else 8, 1, **options)
        assert alone["lines"][0]["completions/mean_length"] not in (1.0, 8.0)
        for size, _ in BATCHES[name]:
            shared = torch.load(tmp_path / f"{name}-{size}-0.pt", weights_only=False)
            for expected, found in zip(alone["gradients"], shared["gradients"], strict=True):
                assert expected.keys() == found.keys()
                atol = 1e-6 * max(float(gradient.abs().max()) for gradient in expected.values())
                for parameter, gradient in expected.items():
                    torch.testing.assert_close(
                        found[parameter], gradient, rtol=1e-4, atol=atol, msg=lambda m, n=name, p=parameter: n + p + m
                    )
            for line, other in zip(alone["lines"], shared["lines"], strict=True):
                assert other == pytest.approx(line, rel=1e-4, abs=1e-6), (name, size)
            assert shared["captions"] == alone["captions"]
    assert len(alone["captions"]) == 2
    assert any("eval/rewards/words" in line for line in alone["lines"])
