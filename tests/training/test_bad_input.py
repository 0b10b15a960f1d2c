"""What users get wrong: one message that names it, exit code 2, no traceback. What goes wrong on the way is no such."""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from small import picture_dataset
from test_captioner_trainer import xe_trainer
from tiny import CAPTIONS, tiny_encoder_decoder, tiny_grid_transformer

from rlcap.cli import main
from rlcap.data.write_features import write_features
from rlcap.failures import was_under_way
from rlcap.training.arguments import MEASURED
from rlcap.training.xe import XEArguments


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that takes 24 tokens at most."""
    folder = tmp_path_factory.mktemp("captioners") / "tiny"
    tiny_encoder_decoder().save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five pictures to train on and one to validate with."""
    picture_dataset(tmp_path, 6)
    return write_rows(tmp_path, [row(i, "val" if i == 5 else "train") for i in range(6)])


def row(index: int, split: str = "train", references: list[str] | None = None, image: str | None = None) -> dict:
    references = CAPTIONS[:2] if references is None else references
    return {"image_id": f"p{index}", "image": image or f"{index}.png", "references": references, "split": split}


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def told(capsys: pytest.CaptureFixture[str], command: str, *arguments: Any, code: int = 2) -> str:
    """The message with which a command ends."""
    with pytest.raises(SystemExit) as end:
        main([command, *map(str, arguments)])
    assert end.value.code == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.count("rlcap: ") == 1
    return err[err.index("rlcap: ") :]


def options(saved: Path, captions: Path, output: Path, **others: Any) -> list[Any]:
    fixed = {"captioner": saved, "data": captions, "output_dir": output, "use_cpu": True, "max_caption_length": 24}
    quiet = {"disable_tqdm": True, "save_strategy": "no", "max_steps": 2, "per_device_train_batch_size": 2}
    chosen = {**fixed, **quiet, **others}
    lists = (value if isinstance(value, list) else [value] for value in chosen.values())
    return [text for key, values in zip(chosen, lists, strict=True) for text in (f"--{key}", *values)]


# Rewards that are named module:function in a recipe.


def nan_reward(completions: list[str], **columns: Any) -> list[float]:
    return [math.nan] * len(completions)


def lost_reward(completions: list[str], mood: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def word_count(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(completion.split())) for completion in completions]


def failing_reward(completions: list[str], **columns: Any) -> list[float]:
    raise ValueError("a word that the reward does not know")


def short_reward(completions: list[str], **columns: Any) -> list[float]:
    return [0.0]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate: invalid float value: 'fast'"),
        ({"num_samples": 2.5}, "num_samples: invalid int value: '2.5'"),
        ({"num_sample": 3}, "unknown key 'num_sample' (did you mean 'num_samples'?)"),
        ({"baseline": "mean"}, "baseline is 'mean'; it must be one of greedy, leave_one_out, group, beam_mean"),
        ({"num_samples": 1}, "num_samples is 1; it must be 2 or more with baseline leave_one_out"),
        ({"reward_weights": [1, 2]}, "reward_weights is [1.0, 2.0]; it must be one number a reward; there are 1"),
        ({"freeze": "head"}, "freeze is 'head'; it must be among vision, connector, decoder"),
        ({"sample_checkers": "spelling"}, "sample_checkers is 'spelling'; it must be among bad_ending, repeated_word"),
        ({"rewards": "cider"}, "there is no reward 'cider' (did you mean 'cider-d'?); the built-in ones are cider-d"),
        ({"reward_options": '{"bleu": {}}'}, "reward_options is ['bleu']; it must be among the rewards ['cider-d']"),
        ({"reward_options": "{"}, "reward_options is no JSON"),
        ({"max_caption_length": 30}, "max_caption_length is 30; it must be at most 24"),
        ({"images": "nowhere"}, "nowhere: there is no such folder of pictures"),
        ({"data": "nothing.json"}, "nothing.json"),
        ({"train_split": "trian"}, 'has no rows in the split "trian"; there are "train" (5), "val" (1)'),
        ({"eval_strategy": "steps", "val_split": "dev"}, 'has no rows in the split "dev"'),
        ({"eval_strategy": "epoch", "metric_for_best_model": "cidre"}, "it must be one of bleu_1, bleu_2"),
        ({"eval_strategy": "epoch", "metric_for_best_model": "cidre"}, "(did you mean 'cider'?)"),
        ({"config": "scst/nothing"}, "no recipe 'scst/nothing': it is no file, and the shipped ones are"),
        ({"vision": "x"}, "captioner, vision is"),
        ({"resume_from_checkpoint": "x"}, "the same command goes on from the last complete checkpoint"),
        ({"baseline": "beam_mean", "temperature": 0.5}, "1, 0 and 1 with baseline beam_mean: beams are not drawn"),
    ],
    ids=str,
)
def test_each_has_its_message(
    others: dict[str, Any],
    message: str,
    saved: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = told(capsys, "scst", *options(saved, data, tmp_path / "run", **others))
    assert message in found


def test_a_reward_that_is_nan_is_told_and_no_mistake_of_the_recipe(
    saved: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = options(saved, data, tmp_path / "run", rewards="test_bad_input:nan_reward")
    assert "nan_reward: returned nan for the picture 'p" in told(capsys, "scst", *arguments, code=1)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("failing_reward", "a word that the reward does not know"),
        ("short_reward", "short_reward: returned 1 values for 10 captions"),
        ("lost_reward", r"lost_reward: needs the column\(s\) mood"),
    ],
)
def test_an_error_on_the_way_keeps_its_traceback(
    reward: str, message: str, saved: Path, data: Path, tmp_path: Path
) -> None:
    arguments = options(saved, data, tmp_path / "run", rewards=f"test_bad_input:{reward}")
    with pytest.raises(ValueError, match=message) as error:  # Python shows it, and ends with 1
        main(["scst", *map(str, arguments)])
    assert was_under_way(error.value)


def test_debug_shows_the_traceback(saved: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="baseline is 'mean'"):
        main(["scst", *map(str, options(saved, data, tmp_path / "run", baseline="mean")), "--debug"])


@pytest.mark.parametrize("command", ["xe", "scst"])
def test_a_picture_without_references(
    command: str, saved: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path, [row(0), row(1, references=[]), row(2)])
    found = told(capsys, command, *options(saved, data, tmp_path / "run"))
    assert "1 of 3 pictures have no references: p1" in found


def test_rewards_without_references_need_none(saved: Path, data: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, [row(0), row(1, references=[]), row(2)])
    main(["scst", *map(str, options(saved, data, tmp_path / "run", rewards="test_bad_input:word_count"))])
    assert (tmp_path / "run" / "final").is_dir()


def test_evaluation_without_its_package_is_told_at_once(
    saved: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pycocoevalcap" else find_spec(name, *rest)
    )
    found = told(capsys, "xe", *options(saved, data, tmp_path / "run", eval_strategy="epoch"))
    assert "needs pycocoevalcap: pip install 'rlcap[coco]'" in found


def test_secrets_are_not_written(saved: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["xe", *map(str, options(saved, data, tmp_path / "run", hub_token="hf_SECRET"))]
    monkeypatch.setattr(sys, "argv", ["rlcap", *arguments, "--hub_token=hf_SECRET"])
    main(arguments)
    assert "hf_SECRET" not in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize("metric", MEASURED)
def test_the_best_is_the_least_where_less_is_better(metric: str, tmp_path: Path) -> None:
    args = XEArguments(output_dir=str(tmp_path), metric_for_best_model=metric)
    less = metric.startswith("rep_") or metric.endswith(("bad_ending_rate", "repeated_word_rate", "_error_rate"))
    assert args.greater_is_better is not less


def test_an_empty_caption_stops_or_is_dropped(
    saved: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path, [row(0), row(1, references=["A dog.", " "]), row(2)])
    found = told(capsys, "xe", *options(saved, data, tmp_path / "run"))
    assert "1 pictures have an empty caption: p1" in found
    assert "drop_empty" in found
    main(["xe", *map(str, options(saved, data, tmp_path / "run", drop_empty_captions=True))])
    assert (tmp_path / "run" / "final").is_dir()


def test_a_text_file_named_jpg_is_skipped_and_too_many_stop(
    saved: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    shutil.copy(tmp_path / "text.jpg", tmp_path / "other.jpg")
    write_rows(tmp_path, [row(0), row(1, image="text.jpg"), row(2), row(3)])
    main(["xe", *map(str, options(saved, data, tmp_path / "run", per_device_train_batch_size=1, max_steps=8))])
    lines = capsys.readouterr().err.splitlines()
    (skipped,) = (line for line in lines if "skipped a picture" in line)
    assert skipped.startswith(f"rlcap: skipped a picture: {tmp_path / 'text.jpg'}: is not a picture")
    assert lines[-1] == "rlcap: 1 training picture(s) were skipped: they could not be decoded"
    assert (tmp_path / "run" / "final").is_dir()
    write_rows(tmp_path, [row(0), row(1, image="text.jpg"), row(2, image="other.jpg"), row(3)])
    with pytest.raises(SystemExit) as end:
        main(["scst", *map(str, options(saved, data, tmp_path / "other", max_steps=4))])
    assert end.value.code == 1
    found = capsys.readouterr().err
    assert "Traceback" not in found
    assert "2 of 4 pictures cannot be decoded, more than the 1 that max_bad_images allows" in found
    assert "text.jpg: is not a picture" in found
    assert "other.jpg: is not a picture" in found


def test_a_long_caption_is_cut_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = picture_dataset(tmp_path, 2)
    captioner = tiny_encoder_decoder()
    trainer = xe_trainer(captioner, dataset, tmp_path / "run", max_caption_length=5, max_steps=1)
    tokens = trainer.references_of(list(dataset))
    assert tokens.ids.shape[2] == 5
    assert not tokens.finished.any()  # and no EOS is taught where it was cut
    assert captioner.codec.truncated == 5
    (record,) = (record for record in caplog.records if "was cut to 5" in record.message)
    assert record.levelname == "WARNING"


def test_features_need_a_frozen_vision_model_and_the_same_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlcap.data import load_captions

    captioner = tiny_grid_transformer("resnet")
    captioner.save_pretrained(tmp_path / "captioner")
    tiny_grid_transformer("resnet", seed=1).save_pretrained(tmp_path / "other")
    write_features(captioner, load_captions(data), tmp_path / "features")
    arguments = options(tmp_path / "captioner", data, tmp_path / "run", features=tmp_path / "features")
    assert "add vision to freeze (--freeze vision)" in told(capsys, "scst", *arguments)
    arguments[1] = tmp_path / "other"
    found = told(capsys, "scst", *arguments, "--freeze", "vision")
    assert "were made differently: weights: stored sha256:" in found
