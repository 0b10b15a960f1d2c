"""SCST on learned rewards: combined, and looking at pictures beside stored features."""

import json
from pathlib import Path
from typing import Any

import pytest
import text_encoders
import tiny_clip
from small import picture_dataset
from test_bad_input import row, told, write_rows
from test_scst import K
from tiny import tiny_encoder_decoder, tiny_grid_transformer
from transformers import TrainerCallback

import captioners
import rewards
from rewards.grammar_model import GrammarModel, GrammarSettings
from rewards.reward import as_reward
from rlcap.cli import main
from rlcap.data import load_captions
from rlcap.data.images import open_image
from rlcap.data.write_features import write_features
from rlcap.training.scst import SCSTTrainer
from rlcap.training.scst_arguments import SCSTArguments


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random dual encoder."""
    state = tiny_clip.random_state()
    return tiny_clip.write_open_clip(tmp_path_factory.mktemp("clip"), state)


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grammar")
    base = text_encoders.bert(tmp_path_factory.mktemp("bert"))
    GrammarModel.create(base, GrammarSettings("tiny", width=8)).save(folder)
    return folder


def trainer_of(captioner: Any, dataset: Any, output: Path, functions: list[Any], **options: Any) -> SCSTTrainer:
    features, callbacks = options.pop("features", None), options.pop("callbacks", None)
    fixed = {"num_samples": K, "max_new_tokens": 8, "max_caption_length": 24, "per_device_train_batch_size": 3}
    rest = {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "max_steps": 2}
    args = SCSTArguments(output_dir=str(output), **{**fixed, **rest, **options})
    return SCSTTrainer(captioner, args, dataset, reward_functions=functions, features=features, callbacks=callbacks)


def test_rewards_of_one_recipe_combine(clip: Path, grammar: Path, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []

    def noted(completions: list[str], image_id: list[str], **columns: Any) -> list[float]:
        calls.append({"completions": list(completions), "image_id": list(image_id)})
        return [0.0] * len(completions)

    dataset = picture_dataset(tmp_path, 3)
    looks, reads = rewards.load("pac-s++", backbone=clip, clamp=False), rewards.load("grammar", path=grammar)
    functions = [looks, reads, as_reward(noted)]
    options = {"rewards": ["pac-s++", "grammar", "m:noted"], "reward_weights": [2.0, 0.5, 1.0]}
    trainer = trainer_of(tiny_encoder_decoder(), dataset, tmp_path / "run", functions, **options)
    trainer.train()
    pictures = {row["image_id"]: open_image(row["image"]) for row in dataset}
    lines = [line for line in trainer.state.log_history if "reward" in line]
    assert len(lines) == len(calls) == 2
    for line, call in zip(lines, calls, strict=True):
        images = [pictures[image_id] for image_id in call["image_id"]]
        seen, read = looks(call["completions"], images=images), reads(call["completions"])
        assert len(set(seen)) > 3
        assert len(set(read)) > 3
        assert line["rewards/pac-s++/mean"] == pytest.approx(sum(seen) / len(seen), abs=1e-5)
        assert line["rewards/grammar/mean"] == pytest.approx(sum(read) / len(read), abs=1e-5)
        assert line["reward"] == pytest.approx((2 * sum(seen) + 0.5 * sum(read)) / len(seen), abs=1e-5)


class _Removes(TrainerCallback):
    """Takes the pictures away after the first step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        for file in self.folder.glob("*.png"):
            file.unlink()


def test_beside_features_a_picture_is_opened_for_a_reward_that_does_not_know_it(clip: Path, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 3)
    store = write_features(tiny_grid_transformer("resnet"), dataset, tmp_path / "features")
    reward = rewards.load("clip-s", backbone=clip)
    options = {"features": store, "freeze": ["vision"], "rewards": ["clip-s"]}
    trainer = trainer_of(
        tiny_grid_transformer("resnet"), dataset, tmp_path / "run", [reward], callbacks=[_Removes(tmp_path)], **options
    )
    trainer.train()  # its second step has no pictures to open
    assert trainer.state.global_step == 2
    assert reward.features.frames_encoded == 3
    new = rewards.load("clip-s", backbone=clip)
    with pytest.raises(ValueError, match=r"\.png: there is no such file"):
        trainer_of(tiny_grid_transformer("resnet"), dataset, tmp_path / "other", [new], **options).train()


def test_beside_features_other_rewards_get_lists_of_pictures(clip: Path, tmp_path: Path) -> None:
    given: list[Any] = []

    def looks(completions: list[str], images: list[Any], **columns: Any) -> list[float]:
        given.append(images)
        return [float(image.width) for image in images]

    dataset = picture_dataset(tmp_path, 3)
    store = write_features(tiny_grid_transformer("resnet"), dataset, tmp_path / "features")
    functions = [rewards.load("clip-s", backbone=clip), as_reward(looks)]
    options = {"features": store, "freeze": ["vision"], "rewards": ["clip-s", "m:looks"]}
    trainer_of(tiny_grid_transformer("resnet"), dataset, tmp_path / "run", functions, **options).train()
    assert [type(images) for images in given] == [list, list]
    assert {image.size for images in given for image in images} == {(16, 16)}


def test_with_features_the_folder_of_pictures_is_found_and_missed(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    picture_dataset(tmp_path / "images", 6)
    data = write_rows(tmp_path, [row(i, "val" if i == 5 else "train", image=f"{i}.png") for i in range(6)])
    captioner = tmp_path / "captioner"
    tiny_grid_transformer("resnet").save_pretrained(captioner)
    write_features(captioners.load(captioner), load_captions(data), tmp_path / "features")
    command = [
        *("--captioner", captioner, "--data", data, "--features", tmp_path / "features", "--freeze", "vision"),
        *("--rewards", "clip-s", "--reward_options", json.dumps({"clip-s": {"backbone": str(clip)}}), "--use_cpu"),
        *("--max_caption_length", 24, "--max_new_tokens", 8, "--num_samples", 2, "--per_device_train_batch_size", 5),
        *("--max_steps", 1, "--eval_strategy", "no", "--save_strategy", "no", "--disable_tqdm", "true"),
    ]
    main(["scst", *map(str, command), "--output_dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "final").is_dir()
    for file in (tmp_path / "images").glob("*.png"):
        file.unlink()
    message = told(capsys, "scst", *command, "--output_dir", tmp_path / "other")
    assert "the rewards look at pictures, and none of the first is there (--images DIR)" in message
