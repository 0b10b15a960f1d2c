"""`rlcap reward pac`: it learns drawn scenes, is kept as it was, goes on, and reads generated positives."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_towers
import torch
from safetensors.torch import load_file, save_file

import rewards
from rewards.dual_encoder_loading import load_dual_encoder
from rlcap.cli import main
from rlcap.data import load_captions
from rlcap.data.images import open_image
from rlcap.data.scenes import make_scenes
from rlcap.tracking.run_directory import read_metrics

CPU = ("--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true", "--debug")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), 400, 60, 60, seed=3)


@pytest.fixture(scope="module")
def random_clip(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    captions = [caption for references in load_captions(scenes)["references"] for caption in references]
    return tiny_towers.clip(tmp_path_factory.mktemp("clip"), captions)


def run(data: Path, output: Path, **options: Any) -> Path:
    given = {
        "prefix": "",
        "per_device_train_batch_size": 50,
        "per_device_eval_batch_size": 60,
        "logging_steps": 4,
        "dataloader_drop_last": True,
        **options,
    }
    keys = [text for key, value in given.items() for text in (f"--{key}", str(value))]
    main(["reward", "pac", "--data", str(data), "--output_dir", str(output), *CPU, *keys])
    return output


@pytest.fixture(scope="module")
def learned(scenes: Path, random_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained all weights of the random CLIP."""
    return run(
        scenes,
        tmp_path_factory.mktemp("run") / "learned",
        encoder=random_clip,
        tune="all",
        num_train_epochs=18,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=30,
        eval_steps=48,
        eval_strategy="steps",
        save_strategy="steps",
        save_steps=48,
    )


def report(output: Path) -> dict[str, Any]:
    return json.loads((output / "report.json").read_text())


def test_it_learns_scenes_that_it_has_not_seen(learned: Path) -> None:
    test = report(learned)["test"]
    assert test["pictures"] == 60
    assert test["r1"] > 15  # chance is 1.7
    assert test["text_to_image_r10"] > 50  # chance is 16.7
    logged = read_metrics(learned / "metrics.jsonl")
    evaluations = [line for line in logged if "eval/r1" in line]
    assert [line["step"] for line in evaluations] == [48, 96, 144]
    assert report(learned)["val"]["r1"] == pytest.approx(max(line["eval/r1"] for line in evaluations))
    steps = [line for line in logged if "loss/real" in line]
    assert steps[-1]["loss/real"] == pytest.approx(steps[-1]["loss"], abs=1e-4)  # there is no other term
    assert steps[-1]["temperature"] != steps[0]["temperature"]


def test_the_reward_scores_as_the_report_says(learned: Path, scenes: Path) -> None:
    rows = load_captions(scenes, split="test")
    pictures = [open_image(path) for path in rows["image"]]
    captions = [references[0] for references in rows["references"]]
    reward = rewards.load("pac-s++", backbone=str(learned / "final"), prefix="", device="cpu")
    own = reward(captions, images=pictures, image_id=rows["image_id"])
    shifted = reward(captions[1:] + captions[:1], images=pictures, image_id=rows["image_id"])
    assert sum(a > b for a, b in zip(own, shifted, strict=True)) > 50  # of 60
    described = reward.describe()
    assert described["weights"] == report(learned)["weights"]
    assert described["training"]["tune"] == "all"
    with pytest.raises(ValueError, match="holds a run with other settings"):
        run(scenes, learned, encoder=learned / "final", tune="projections")


def test_a_stopped_run_goes_on_to_the_same_weights(scenes: Path, learned: Path, tmp_path: Path) -> None:
    options = {
        "encoder": learned / "final",
        "tune": "lora",
        "lora_rank": 2,
        "lora_dropout": 0.1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_train_images": 100,
        "max_val_images": 10,
    }
    run(scenes, tmp_path / "whole", num_train_epochs=3, **options)
    run(scenes, tmp_path / "parts", num_train_epochs=1, **options)
    run(scenes, tmp_path / "parts", num_train_epochs=3, **options)
    whole, parts = (load_file(tmp_path / name / "checkpoint-6" / "trained.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert report(tmp_path / "whole") == report(tmp_path / "parts")
    run(scenes, tmp_path / "parts", num_train_epochs=3, **options)  # has ended: no step is taken
    assert [line["step"] for line in read_metrics(tmp_path / "parts" / "metrics.jsonl")][-1] == 6
    assert report(tmp_path / "whole") == report(tmp_path / "parts")


def test_a_run_that_has_ended_is_left_as_it_is(scenes: Path, learned: Path, tmp_path: Path) -> None:
    options = {"encoder": learned / "final", "tune": "projections", "learning_rate": 1e-3}
    options |= {"lr_scheduler_type": "constant", "max_train_images": 150, "max_val_images": 10}
    options |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}  # of an epoch of 3
    run(scenes, tmp_path, **options)
    kept = [tmp_path / "final" / "model.safetensors", tmp_path / "report.json", tmp_path / "metrics.jsonl"]
    before = [path.read_bytes() for path in kept]
    run(scenes, tmp_path, **options)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert [path.read_bytes() for path in kept] == before


def test_lora_with_generated_positives_changes_and_does_not_break(scenes: Path, learned: Path, tmp_path: Path) -> None:
    rows = load_captions(scenes, split="train")
    generated = tmp_path / "captions.jsonl"
    lines = [{"image_id": row["image_id"], "captions": row["references"][:2]} for row in rows]
    generated.write_text("".join(json.dumps(line) + "\n" for line in lines[: len(lines) // 2]))
    (tmp_path / "drawn" / "pictures").mkdir(parents=True)
    manifest = []
    for row in rows.select(range(300)):
        file = f"pictures/{row['image_id']}.png"
        open_image(row["image"]).rotate(3).save(tmp_path / "drawn" / file)
        manifest.append({"image_id": row["image_id"], "caption": row["references"][0], "file": file})
    (tmp_path / "drawn" / "pictures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in manifest))
    for towers in ("both", "text"):
        output = run(
            scenes,
            tmp_path / towers,
            encoder=learned / "final",
            tune="lora",
            towers=towers,
            num_train_epochs=2,
            learning_rate=1e-3,
            generated_captions=generated,
            generated_pictures=tmp_path / "drawn",
            eval_strategy="no",
            logging_steps=1,
        )
        logged = [line for line in read_metrics(output / "metrics.jsonl") if "loss" in line]
        names = ("loss/real", "loss/generated_pictures", "loss/generated_captions")
        for line in logged:
            assert line["loss"] == pytest.approx(
                sum(w * line[n] for w, n in zip((1, 0.05, 0.1), names, strict=True)), rel=1e-4
            )
        assert report(output)["weights"] != report(learned)["weights"]
        assert report(output)["test"]["r1"] > report(learned)["test"]["r1"] - 10
        merged_lora = load_dual_encoder(output / "final").describe()["training"]["lora"]
        assert merged_lora == {"rank": 4, "alpha": 1.0, "merged": True}
        # Of a frozen tower every picture was seen once, the generated ones apart from those that they are of.
        stores = sorted(path.parent.name[:9] for path in (output / "vectors").rglob("header.json"))
        assert stores == ([] if towers == "both" else ["generated", "vectors"])


def test_a_frozen_tower_is_read_from_its_vectors(scenes: Path, learned: Path, tmp_path: Path) -> None:
    """Whether pictures or their stored vectors come in, one step moves the text tower alike."""
    shared = {"encoder": learned / "final", "tune": "all", "max_steps": 1, "eval_strategy": "no", "learning_rate": 1e-3}
    shared |= {"max_train_images": 50, "picture_vectors": tmp_path / "vectors", "save_strategy": "no"}
    one = run(scenes, tmp_path / "one", towers="text", **shared)
    copied = tmp_path / "scenes"
    shutil.copytree(scenes.parent, copied)
    shutil.rmtree(copied / "images")
    (copied / "images").mkdir()
    for row in load_captions(scenes):
        (copied / "images" / Path(row["image"]).name).write_text("gone: no picture is opened again")
    two = run(copied / "captions.jsonl", tmp_path / "two", towers="text", **shared)
    assert report(one)["weights"] == report(two)["weights"] != report(learned)["weights"]
    config = tmp_path / "other" / "config.json"  # the same weights, with other activations
    shutil.copytree(learned / "final", config.parent)
    config.write_text(config.read_text().replace('"quick_gelu"', '"gelu"'))
    with pytest.raises(ValueError, match="activations"):
        run(copied / "captions.jsonl", tmp_path / "three", towers="text", **{**shared, "encoder": config.parent})
    projections = run(scenes, tmp_path / "projections", **{**shared, "tune": "projections"})
    before, after = (load_dual_encoder(path / "final").state_dict() for path in (learned, projections))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"model.visual_projection.weight", "model.text_projection.weight", "model.logit_scale"}


def test_numbers_go_to_tensorboard_under_our_names(scenes: Path, learned: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"encoder": learned / "final", "tune": "projections", "num_train_epochs": 1, "logging_steps": 1}
    options |= {"max_val_images": 10, "max_train_images": 50, "report_to": "tensorboard"}
    output = run(scenes, tmp_path / "run", **options)
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    assert {"loss/real", "temperature", "eval/r1", "eval/loss"} <= set(events.Tags()["scalars"])


def test_a_temperature_beyond_clips_bound_stays(scenes: Path, random_clip: Path, tmp_path: Path) -> None:
    """SigLIP begins at an inverse temperature of about 117."""
    shutil.copytree(random_clip, tmp_path / "sharp")
    weights = load_file(tmp_path / "sharp" / "model.safetensors")
    weights["logit_scale"] = torch.tensor(math.log(117.0))
    save_file(weights, tmp_path / "sharp" / "model.safetensors", {"format": "pt"})
    short = {"tune": "projections", "max_steps": 1, "learning_rate": 1e-6, "eval_strategy": "no"}
    run(scenes, tmp_path / "run", encoder=tmp_path / "sharp", **short)
    assert 1 / report(tmp_path / "run")["temperature"] == pytest.approx(117.0, rel=1e-4)


def test_patience_ends_a_run(scenes: Path, learned: Path, tmp_path: Path) -> None:
    options = {"encoder": learned / "final", "tune": "projections", "learning_rate": 0.3, "num_train_epochs": 9}
    options |= {"max_val_images": 30, "max_train_images": 50, "early_stopping_patience": 2}
    output = run(scenes, tmp_path / "run", **options)
    evaluations = [line["eval/r1"] for line in read_metrics(output / "metrics.jsonl") if "eval/r1" in line]
    best = evaluations.index(max(evaluations))
    assert len(evaluations) == best + 3 < 9
    run(scenes, tmp_path / "run", **options)
    assert len([line for line in read_metrics(output / "metrics.jsonl") if "eval/r1" in line]) == len(evaluations)


def test_what_is_refused(scenes: Path, random_clip: Path, tmp_path: Path) -> None:
    base = {"encoder": random_clip, "num_train_epochs": 1}
    for options, said in (
        ({"gradient_accumulation_steps": 2}, "InfoNCE over parts of a batch is not that over the whole"),
        ({"lambda_t": 0.1}, "lambda_t is 0.1; it must be 0, or left out, where generated_captions is not given"),
        ({"lambda_v": 0.1}, "lambda_v is 0.1; it must be 0, or left out, where generated_pictures is not given"),
        ({"vision": "x", "text": "y"}, "a dual encoder, or a vision model and a text encoder"),
        ({"tune": "some"}, "tune is 'some'; it must be one of lora, projections, all"),
        ({"metric_for_best_model": "cider"}, "metric_for_best_model is 'cider'"),
        ({"generated_captions": tmp_path / "none.jsonl"}, "there is no such file of generated positives"),
    ):
        with pytest.raises(ValueError, match=said):
            run(scenes, tmp_path / "run", **{**base, **options})
    other = tmp_path / "other.jsonl"
    other.write_text('{"image_id": "elsewhere", "captions": ["a dog"]}\n')
    with pytest.raises(ValueError, match="has nothing for any of the 400 training pictures"):
        run(scenes, tmp_path / "run", generated_captions=other, **base)


def test_a_run_that_cannot_end_well_does_not_begin(scenes: Path, random_clip: Path, tmp_path: Path) -> None:
    base = {"encoder": random_clip, "num_train_epochs": 1}
    with pytest.raises(ValueError, match=r"50 pictures a step; there are 40 training pictures"):
        run(scenes, tmp_path / "run", max_train_images=40, **base)
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    last = next(row for row in reversed(rows) if row["split"] == "test")
    last["references"] = []
    without = scenes.with_name("without.jsonl")
    without.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="1 of 60 pictures have no references"):
        run(without, tmp_path / "run", **base)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_equal_one(scenes: Path, learned: Path, tmp_path: Path) -> None:
    options = {"encoder": learned / "final", "tune": "all", "prefix": "", "max_steps": 3, "learning_rate": 0.05}
    options |= {"optim": "sgd", "max_train_images": 90, "max_val_images": 15, "eval_strategy": "steps", "eval_steps": 3}
    options |= {"logging_steps": 1, "save_strategy": "no", "per_device_eval_batch_size": 60}
    for processes in (1, 2):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        given = {**options, "output_dir": tmp_path / str(processes), "per_device_train_batch_size": 30 // processes}
        keys = [text for key, value in given.items() for text in (f"--{key}", str(value))]
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "rlcap", "reward", "pac", "--data", str(scenes), *keys, *CPU],
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("1", "2"))
    for alone, shared in zip(one, two, strict=True):
        assert shared == pytest.approx(alone, rel=1e-4, abs=1e-5)
    weights = [load_file(tmp_path / name / "final" / "model.safetensors") for name in ("1", "2")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=0)
