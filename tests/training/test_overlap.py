"""Rewards of one micro-batch beside the sampling of the next: the same bits, sooner, and errors as before."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from small import picture_dataset
from test_scst import Noted, scst_trainer
from tiny import favour_end, tiny_encoder_decoder

from captioners.base import Captioner
from rewards.reward import as_reward

MICRO_STEPS = {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 2, "logging_strategy": "steps"}


class Slow(Noted):
    """A reward that takes a while, and notes when and where it ran."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.ran: list[tuple[str, float, float]] = []

    def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        started = time.perf_counter()
        time.sleep(self.seconds)
        values = super().__call__(completions, **columns)
        columns["log_metric"]("own", sum(values))
        self.ran.append((threading.current_thread().name, started, time.perf_counter()))
        return values


def trained(tmp_path: Path, reward: Any, **options: Any) -> tuple[Captioner, Path]:
    captioner = tiny_encoder_decoder(dropout=0.0)
    favour_end(captioner)
    tmp_path.mkdir(exist_ok=True)
    settings = {**MICRO_STEPS, "logging_steps": 1, "baseline": "greedy", "report_to": [], **options}
    scst_trainer(captioner, picture_dataset(tmp_path, 12), tmp_path / "run", reward, **settings).train()
    return captioner, tmp_path / "run"


def test_the_same_bits(tmp_path: Path) -> None:
    runs = [trained(tmp_path / str(overlap), Slow(0.05), overlap_rewards=overlap) for overlap in (True, False)]
    weights = [captioner.state_dict() for captioner, _ in runs]
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for _, folder in runs]
    beside, after = ([_untimed(json.loads(line)) for line in own] for own in lines)
    assert len(beside) == 2
    assert "own" in beside[0]
    assert beside == after


def _untimed(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if not key.startswith("time/")}


def test_the_next_is_sampled_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled, sample = [], Captioner.sample

    def noted(self: Captioner, *what: Any, **options: Any) -> Any:
        sampled.append(time.perf_counter())
        return sample(self, *what, **options)

    monkeypatch.setattr(Captioner, "sample", noted)
    reward = Slow(0.5)
    trained(tmp_path, reward, max_steps=1)
    assert [thread for thread, _, _ in reward.ran] == ["rlcap-rewards"] * 3
    assert sampled[1] < reward.ran[0][2]  # one after the other it would begin behind that
    alone = Slow(0.0)
    trained(tmp_path / "alone", alone, max_steps=1, gradient_accumulation_steps=1)
    assert [thread for thread, _, _ in alone.ran] == [threading.main_thread().name]


def test_a_reward_that_hangs_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"noted: no answer within 0\.2 seconds"):
        trained(tmp_path, Slow(4.0), reward_timeout=0.2)


def test_an_error_is_raised_as_it_is(tmp_path: Path) -> None:
    def broken(completions: list[str], **columns: Any) -> list[float]:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        trained(tmp_path, as_reward(broken))


def test_what_is_not_finite_is_written_down_with_its_own_micro_batch(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def once_nan(completions: list[str], image_id: list[str], **columns: Any) -> list[float]:
        calls.append(image_id)
        return [float("nan") if len(calls) == 2 else float(len(text)) for text in completions]

    _, run = trained(tmp_path, as_reward(once_nan), max_steps=1, max_not_finite=1)
    (line,) = (run / "not_finite" / "rank_0.jsonl").read_text().splitlines()
    assert [picture["image_id"] for picture in json.loads(line)["rows"]] == list(dict.fromkeys(calls[1]))
    assert len(calls) == 3
