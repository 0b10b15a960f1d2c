"""Chat models through the commands that train and caption, and one step of each trainer in more than one way."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Recorder, picture_dataset
from test_captioner_trainer import xe_trainer
from test_scst import Noted, scst_trainer
from tiny import CAPTIONS, CHATS, favour_end, pictures, tiny_idefics3, tiny_llava, tiny_qwen2_vl

import captioners
from captioners import Chat
from rlcap.cli import main
from rlcap.tracking.run_directory import read_metrics
from rlcap.training.parts import parts_table

QUICK = {"per_device_train_batch_size": 3, "logging_steps": 1, "use_cpu": "true", "disable_tqdm": "true"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pictures of three shapes, two of them for validation."""
    rows = []
    for index, picture in enumerate(pictures(6)):
        picture.resize(((16, 16), (40, 16), (32, 32))[index % 3]).save(tmp_path / f"{index}.png")
        split = "val" if index > 3 else "train"
        rows.append({"image_id": str(index), "image": f"{index}.png", "references": CAPTIONS[:2], "split": split})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "captions.jsonl"


def command(name: str, **options: Any) -> None:
    main([name, *(str(text) for key, value in options.items() for text in (f"--{key}", value))])


@pytest.mark.parametrize("name", CHATS)
def test_xe_then_scst_then_captions(name: str, data: Path, tmp_path: Path) -> None:
    captioner = CHATS[name](prompt="What is this?")
    captioner.save_pretrained(tmp_path / "captioner")
    shared = {**QUICK, "data": data, "max_caption_length": 24, "eval_strategy": "steps", "eval_max_new_tokens": 5}
    learning = {"learning_rate": 3e-3, "max_steps": 6, "eval_steps": 6, "gradient_checkpointing": "true"}
    command("xe", captioner=tmp_path / "captioner", output_dir=tmp_path / "xe", **shared, **learning)
    losses = [line["loss"] for line in read_metrics(tmp_path / "xe" / "metrics.jsonl") if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert json.loads((tmp_path / "xe" / "run.json").read_text())["settings"]["prompt"] == "What is this?"

    sampling = {"num_samples": 3, "max_new_tokens": 5, "rewards": "cider-d", "baseline": "greedy", "kl_beta": 0.1}
    parts = {"freeze": "vision", "lora_parts": "decoder", "lora_rank": 2, "max_steps": 2, "eval_steps": 2}
    command("scst", captioner=tmp_path / "xe" / "final", output_dir=tmp_path / "scst", **shared, **sampling, **parts)
    assert len([line for line in read_metrics(tmp_path / "scst" / "metrics.jsonl") if "reward" in line]) == 2

    final = tmp_path / "scst" / "final"
    output = tmp_path / "said.json"
    main(
        ["caption", "--images", str(tmp_path / "5.png"), "--captioner", str(final), "--output", str(output), "--quiet"]
    )
    loaded = captioners.load(final)
    assert isinstance(loaded, Chat)
    assert loaded.prompt == "What is this?"
    assert len(json.loads(output.read_text())) == 1


@pytest.mark.parametrize("name", CHATS)
def test_scst_gives_the_same_step_with_and_without_layers_computed_again(name: str, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 3)
    found = []
    for checkpointing in (False, True):
        captioner, recorder, reward = CHATS[name](), Recorder(), Noted()
        favour_end(captioner)
        options = {"max_steps": 1, "gradient_checkpointing": checkpointing}
        scst_trainer(captioner, dataset, tmp_path / str(checkpointing), reward, recorder, **options).train()
        found.append((reward.calls[0]["ids"], recorder.gradients[0]))
    assert found[0][0] == found[1][0]
    assert found[0][1].keys() == found[1][1].keys()
    assert any(gradient.any() for gradient in found[0][1].values())
    for parameter, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][parameter], atol=1e-4), parameter


@pytest.mark.parametrize("frozen", [["vision"], ["vision", "connector"]], ids=str)
def test_a_frozen_tower_runs_once_a_step_and_moves_nothing(frozen: list[str], tmp_path: Path) -> None:
    captioner = tiny_qwen2_vl()
    runs: list[int] = []
    captioner.model.model.visual.register_forward_pre_hook(lambda *_: runs.append(1))
    options = {"freeze": frozen, "max_steps": 1}
    trainer = scst_trainer(captioner, picture_dataset(tmp_path, 3), tmp_path / "run", Noted(), **options)
    runs.clear()
    trainer.train()
    assert len(runs) == 1


def test_unused_parameters_are_said_and_the_others_train(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = xe_trainer(tiny_llava(), picture_dataset(tmp_path, 4), tmp_path / "run", recorder, max_steps=1)
    (told,) = re.findall("never used by this model, and frozen: (.*)", parts_table(trainer.captioner, trainer.args))
    # The layer behind the one that LLaVA reads, and the norm behind it: 16 and 2 tensors.
    unused = told.split(", ")
    assert len(unused) == 18
    assert all("layers.1." in name or "post_layernorm" in name for name in unused)
    trainer.train()
    named = {name for name, _ in trainer.captioner.named_parameters()}
    assert recorder.gradients[0].keys() == named - set(unused)


def test_clips_train_and_features_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captioner = tiny_idefics3()
    rows = picture_dataset(tmp_path, 4)
    files = rows["image"]
    frames = [files[:2], files[:3], files[3:], files[3:]]
    clips = rows.remove_columns("image").add_column("frames", frames)
    recorder = Recorder()
    xe_trainer(captioner, clips, tmp_path / "run", recorder, max_steps=1).train()
    assert all(gradient.isfinite().all() for gradient in recorder.gradients[0].values())
    captioner.save_pretrained(tmp_path / "captioner")
    with pytest.raises(SystemExit):
        command("features", captioner=tmp_path / "captioner", data=data, output=tmp_path / "features")
    assert "features of a Chat captioner cannot be stored: its pictures differ in size" in capsys.readouterr().err
