"""Learned rewards, told to stop: a checkpoint and a code, and the same command ends as if nobody had stopped it."""

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lvlms
import pytest
import text_encoders
import tiny_towers
import torch
from commands import Moment, rlcap
from rated import ratings
from safetensors.torch import load_file
from test_resume import metrics

from rlcap.data import load_captions

pytestmark = pytest.mark.slow
TERM, CODE = signal.SIGTERM, 143
EVERY = ["--use_cpu", "true", "--disable_tqdm", "true", "--logging_steps", "1", "--report_to", "none"]
Command = Callable[[Path], list[Any]]


def weights(run: Path) -> dict[str, bytes]:
    """What was learned, tensor by tensor: safetensors writes its notes in any order."""
    files = sorted((run / "final").rglob("*.safetensors"))
    assert files
    return {
        f"{path.relative_to(run)}: {name}": tensor.numpy().tobytes()
        for path in files
        for name, tensor in load_file(path).items()
    }


def assert_survives(command: Command, step: int, folder: Path) -> None:
    """Told while step `step` - 1 is logged, which is noticed in step `step`."""
    done = rlcap(command(folder / "whole"), folder)
    assert done.code == 0, done.err
    log = next(at for at, line in enumerate(metrics(folder / "whole"), start=1) if line["step"] == step - 1)
    told = rlcap(command(folder / "told"), folder, Moment("open", r"told/metrics\.jsonl a", log, TERM))
    assert told.code == CODE, told.err
    assert f"told to stop by SIGTERM; the checkpoint of step {step} is written" in told.out
    assert (folder / "told" / f"checkpoint-{step}" / "complete.json").is_file()
    done = rlcap(command(folder / "told"), folder)
    assert done.code == 0, done.err
    assert f"going on from {folder / 'told' / f'checkpoint-{step}'}" in done.out
    assert weights(folder / "told") == weights(folder / "whole")
    assert steps(folder / "told") == steps(folder / "whole")


def steps(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; how long an evaluation took stands in them under names of transformers."""
    timed = ("runtime", "per_second")
    return [{name: value for name, value in line.items() if not name.endswith(timed)} for line in metrics(run)]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 to train on."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("captions") / "captions.jsonl"
    with path.open("w") as file:
        for number in range(60):
            words = rng.choice(["red", "blue", "green"]), rng.choice(["circle", "square", "star"])
            line = {"captions": [f"A small {words[0]} {words[1]} is on the left."]}
            file.write(
                json.dumps({"image": f"{number}.png", "split": "val" if number % 6 == 5 else "train", **line}) + "\n"
            )
    return path


@pytest.mark.parametrize("step", [3, 5], ids=["within an epoch", "at its end"])
def test_grammar(step: int, captions: Path, tmp_path: Path) -> None:
    """Five steps an epoch, each logged before the next one; at the end of an epoch comes its evaluation."""
    encoder = text_encoders.bert(tmp_path / "bert")

    def command(output: Path) -> list[Any]:
        return [
            *("reward", "grammar", "--data", captions, "--encoder", encoder, "--output_dir", output, "--width", "16"),
            *("--per_device_train_batch_size", "10", "--learning_rate", "0.01", "--num_train_epochs", "3"),
            *("--negatives", "1", *EVERY),
        ]

    assert_survives(command, step, tmp_path)
    assert [line["step"] for line in metrics(tmp_path / "told") if "eval_accuracy" in line] == [5, 10, 15]


def test_pac(scenes: Path, tmp_path: Path) -> None:
    """Three steps an epoch."""
    words = [caption for references in load_captions(scenes)["references"] for caption in references]
    encoder = tiny_towers.clip(tmp_path / "clip", words)

    def command(output: Path) -> list[Any]:
        return [
            *("reward", "pac", "--data", scenes, "--encoder", encoder, "--output_dir", output, "--tune", "all"),
            *("--per_device_train_batch_size", "8", "--learning_rate", "1e-3", "--num_train_epochs", "3"),
            *("--prefix", "", "--dataloader_drop_last", "true", "--eval_strategy", "no", "--save_strategy", "no"),
            *EVERY,
        ]

    assert_survives(command, 5, tmp_path)


def test_multi_tap(tmp_path: Path) -> None:
    """Six steps an epoch."""
    pytest.importorskip("sklearn", reason="stage 2 needs scikit-learn: pip install 'rlcap[scorers]'")
    torch.manual_seed(0)
    base, data = lvlms.llava(tmp_path / "base"), ratings(tmp_path)

    def command(output: Path) -> list[Any]:
        return [
            *("reward", "multi-tap", "--data", data, "--model", base, "--output_dir", output),
            *("--per_device_train_batch_size", "24", "--per_device_eval_batch_size", "36", "--learning_rate", "0.01"),
            *("--num_train_epochs", "2", "--train_weights", "lora", "--metric_for_best_model", "loss", *EVERY),
        ]

    assert_survives(command, 4, tmp_path)
