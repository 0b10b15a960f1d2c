"""`rlcap reward multi-tap`: stage 1 learns, all three ways of training, resume, stage 2, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rated import COLOURS, ratings
from safetensors.torch import load_file

import rewards
from rlcap.cli import main
from rlcap.training.multi_tap_objectives import fit_objectives, measure_objectives

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "rewards"))

import lvlms

pytest.importorskip("sklearn", reason="stage 2 needs scikit-learn: pip install 'rlcap[scorers]'")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return lvlms.llava(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ratings(tmp_path_factory.mktemp("data"))


def run(data: Path, base: Path, output: Path, *more: str) -> None:
    main(
        [
            *("reward", "multi-tap", "--data", str(data), "--model", str(base), "--output_dir", str(output)),
            *("--per_device_train_batch_size", "24", "--per_device_eval_batch_size", "36", "--learning_rate", "0.01"),
            *("--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true", "--num_train_epochs", "8"),
            # Ranks are right, and stay so, long before the ratings are.
            *("--metric_for_best_model", "loss", *more),
        ]
    )


@pytest.mark.parametrize("weights", ["full", "lora", "head"])
def test_both_stages_learn(weights: str, data: Path, base: Path, tmp_path: Path) -> None:
    checkpointing = ("--activation_checkpointing", "true") if weights != "head" else ("--learning_rate", "0.1")
    run(data, base, tmp_path, "--train_weights", weights, *checkpointing)
    measured = json.loads((tmp_path / "ratings.json").read_text())
    assert set(measured) == {"test", "val"}
    assert set(measured["test"]) == {"overall", "redness", "long"}
    # A head alone reads what 32 random features happen to say.
    assert measured["test"]["overall"]["kendall_b"] > (0.3 if weights == "head" else 0.5)
    assert measured["test"]["redness"]["accuracy"] == 1.0
    assert measured["test"]["redness"]["accuracy_of_mean"] == pytest.approx(2 / 3)
    assert measured["test"]["long"]["pearson"] > 0.9
    reward = rewards.load("multi-tap", path=tmp_path / "final")
    captions = ["a red circle in the picture", "a blue circle in the picture"]
    red, blue = reward(captions, images=[Image.new("RGB", (16, 16), "green")] * 2)
    assert red > blue + (0 if weights == "head" else 0.5)
    assert reward.describe()["rating_scale"] == [1.0, 5.0]
    before, after = (load_file(path / "model.safetensors") for path in (base, tmp_path / "final"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    if weights == "head":
        assert not changed
    elif weights == "lora":
        assert changed
        assert all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in changed)
    else:
        assert any("vision_tower" in name for name in changed)
        assert any("mlp" in name for name in changed)


def test_steps_in_bfloat16_with_checkpointed_activations_are_nearly_those_of_float32(
    data: Path, base: Path, tmp_path: Path
) -> None:
    short = ("--max_steps", "2", "--logging_steps", "1", "--eval_strategy", "no", "--save_strategy", "no")
    short += ("--learning_rate", "0.001", "--lr_scheduler_type", "constant")
    losses, weights = {}, {}
    for bf16 in ("false", "true"):
        options = ("--bf16", bf16, "--activation_checkpointing", bf16)
        run(data, base, tmp_path / bf16, "--train_weights", "full", *short, *options)
        lines = [json.loads(line) for line in (tmp_path / bf16 / "metrics.jsonl").read_text().splitlines()]
        losses[bf16] = [line["loss"] for line in lines if "loss" in line]
        weights[bf16] = load_file(tmp_path / bf16 / "final" / "model.safetensors")
    assert len(losses["true"]) == 2
    assert losses["true"] != losses["false"]
    assert losses["true"] == pytest.approx(losses["false"], rel=0.02)
    before = load_file(base / "model.safetensors")
    for name, plain in weights["false"].items():
        step, other = plain - before[name], weights["true"][name] - before[name]
        assert other.dtype == torch.float32
        if name.endswith("k_proj.bias"):  # it adds the same to all logits of a query: its gradient is rounding
            continue
        assert step.norm() == 0 or torch.cosine_similarity(step.flatten(), other.flatten(), dim=0) > 0.8, name


def test_a_stopped_run_goes_on_to_the_same_weights(data: Path, base: Path, tmp_path: Path) -> None:
    schedule = ("--lr_scheduler_type", "constant", "--train_weights", "lora", "--metric_for_best_model", "loss")
    run(data, base, tmp_path / "whole", "--num_train_epochs", "2", *schedule)
    run(data, base, tmp_path / "parts", "--num_train_epochs", "1", *schedule)
    run(data, base, tmp_path / "parts", "--num_train_epochs", "2", *schedule)
    whole, parts = (load_file(tmp_path / name / "checkpoint-12" / "trained.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(ValueError, match="lora_rank: 16 there, 4 now"):
        run_debug(data, base, tmp_path / "parts", "--num_train_epochs", "2", "--lora_rank", "4", *schedule)


def test_a_run_that_has_ended_is_left_as_it_is(data: Path, base: Path, tmp_path: Path) -> None:
    options = ("--max_steps", "2", "--lr_scheduler_type", "constant", "--train_weights", "head")
    options += ("--save_strategy", "steps", "--save_steps", "2")
    run(data, base, tmp_path, *options)
    final = tmp_path / "final"
    kept = [final / "model.safetensors", final / "rating_head.safetensors", tmp_path / "metrics.jsonl"]
    before = [path.read_bytes() for path in kept]
    run(data, base, tmp_path, *options)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert [path.read_bytes() for path in kept] == before


def run_debug(*arguments: object) -> None:
    run(*arguments, "--debug")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rating_range", "1", "4"), r"rating_range is \[1.0, 4.0\], and the data has ratings from 1 to 5"),
        (("--dtype", "bfloat16"), "dtype is 'bfloat16'; it must be float32 with train_weights full"),
        (("--train_weights", "some"), "train_weights is 'some'; it must be one of full, lora, head"),
        (("--model", "/nowhere"), "/nowhere could not be loaded"),
    ],
)
def test_what_is_refused(more: tuple[str, ...], message: str, data: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_debug(data, base, tmp_path, *more)


def rewritten(data: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the data with its lines changed."""
    shutil.copytree(data.parent, folder)
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    for line in lines:
        change(line)
    (folder / data.name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / data.name


def test_what_would_stop_stage_two_is_said_before_stage_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Path("/nowhere")  # no model is loaded
    with pytest.raises(ValueError, match="'redness' is rated for 24 pictures; cross-validation of 25 folds"):
        run_debug(data, nowhere, tmp_path / "run", "--folds", "25")
    constant = rewritten(data, tmp_path / "constant", lambda line: line["objectives"].update(redness=1))
    with pytest.raises(ValueError, match="'redness' is 1 in every training row"):
        run_debug(constant, nowhere, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match="stage 2 of multi-tap needs scikit-learn"):
        run_debug(data, nowhere, tmp_path / "run")
    plain = rewritten(data, tmp_path / "plain", lambda line: line.pop("objectives"))
    with pytest.raises(ValueError, match="/nowhere could not be loaded"):
        run_debug(plain, nowhere, tmp_path / "run")


def test_broken_pictures_are_counted_and_left_out(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def unchanged(line: dict[str, Any]) -> None:
        pass

    broken = rewritten(data, tmp_path / "broken", unchanged)
    (broken.parent / "3.png").write_text("no picture")
    options = ("--train_weights", "head", "--num_train_epochs", "1", "--per_device_train_batch_size", "1")
    options += ("--dataloader_num_workers", "0", "--logging_steps", "1", "--eval_strategy", "no")
    run(broken, base, tmp_path / "run", *options)
    assert f"rlcap: skipped a picture: {broken.parent / '3.png'}" in capsys.readouterr().err
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in logged) == 23 * 6
    (broken.parent / "35.png").write_text("no picture")
    with pytest.raises(ValueError, match="2 of 36 pictures cannot be decoded, more than the 1 that max_bad_images"):
        run_debug(broken, base, tmp_path / "other", *options)


def test_it_reads_what_the_comparative_scorer_reads(base: Path, tmp_path: Path) -> None:
    """VICR's CSV, split by picture; and ratings are what it needs."""
    header, rows = "image,caption,subset,ratings,rating_2", []
    for number in range(10):
        Image.new("RGB", (16, 16), COLOURS[number % 3]).save(tmp_path / f"{number}.png")
        split = "val" if number >= 8 else "train"
        rows += [
            f"http://x.org/{number}.png,a {colour} circle,{split},{1 + k},{2 + k}" for k, colour in enumerate(COLOURS)
        ]
    (tmp_path / "vicr.csv").write_text("\n".join([header, *rows]))
    run(tmp_path / "vicr.csv", base, tmp_path / "run", "--train_weights", "head", "--num_train_epochs", "1")
    measured = json.loads((tmp_path / "run" / "ratings.json").read_text())
    assert set(measured) == {"val"}
    assert rewards.load("multi-tap", path=tmp_path / "run" / "final").describe()["rating_scale"] == [1.5, 3.5]
    (tmp_path / "pairs.jsonl").write_text('{"image": "0.png", "better": "x", "worse": "y"}')
    with pytest.raises(ValueError, match=r"2 captions of .* have no rating"):
        run_debug(tmp_path / "pairs.jsonl", base, tmp_path / "other")


def test_the_penalty_is_not_chosen_on_the_training_error() -> None:
    """With more dimensions than rows and noise, the least training error is at the smallest penalty."""
    rng = np.random.default_rng(0)
    embeddings, true = rng.normal(size=(80, 60)), rng.normal(size=60)
    noisy = embeddings @ true + 8 * rng.normal(size=80)
    targets = [{"a": value} if row % 2 else {"a": value, "b": float(row)} for row, value in enumerate(noisy)]
    fitted = fit_objectives(embeddings, targets, list(range(80)))
    assert fitted.names == ("a", "b")
    assert fitted.alphas[0] >= 10.0
    measured = measure_objectives(fitted, embeddings[:4], targets[:4], tolerance=1e9)
    assert measured["a"]["accuracy"] == 1.0
    assert measured["b"]["rows"] == 2
    with pytest.raises(ValueError, match="'b' is rated for 4 pictures"):
        fit_objectives(embeddings[:8], targets[:8], list(range(8)))
    with pytest.raises(ValueError, match="'a' is 1 in every training row"):
        fit_objectives(embeddings, [{"a": 1.0}] * 80, list(range(80)))
