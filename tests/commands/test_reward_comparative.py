"""`rlcap reward comparative` from pictures on the disk to a scorer that `rewards.load` takes."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_encoders import tiny_encoders

import rewards
from rlcap.cli import main

pytest.importorskip("sklearn", reason="the command needs the extra `scorers`")

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 pictures of one colour; captions that name it were rated well."""
    folder = tmp_path_factory.mktemp("judged")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(30):
        name = list(COLOURS)[number % 3]
        pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        for told in COLOURS:
            ratings = [5, 4] if told == name else [1, 2]
            lines.append({"image": f"{number}.png", "caption": f"A {told} ball on the beach.", "ratings": ratings})
    (folder / "judged.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tiny_encoders(folder)
    return folder


def command(data: Path, output: Path, *more: str) -> list[str]:
    encoders = ["--picture_encoder", str(data / "resnet"), "--sentence_encoder", str(data / "bert")]
    head = ["--hidden", "16", "--dropout", "0", "--epochs", "12", "--patience", "12", "--batch_size", "16"]
    shared = ["--features", str(output.parent / "features"), "--use_cpu", "true", "--split", "18", "6", "6"]
    return [
        *("reward", "comparative", "--config", "rewards/comparative", "--data", str(data / "judged.jsonl")),
        *encoders,
        *head,
        *shared,
        *("--output_dir", str(output), *more),
    ]


def test_the_command_leaves_a_reward_a_report_and_a_curve(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the curve is drawn by matplotlib (extra `plot`)")
    run = tmp_path / "run"
    main(command(data, run, "--curve", "1", "2", "--curve_seeds", "0", "1"))
    report = json.loads((run / "report.json").read_text())
    assert set(report["test"]) >= {"pearson", "spearman", "kendall_b", "kendall_c", "same_image_pair_accuracy"}
    assert set(report["errors"]) == {"constant", "linear", "isotonic"}
    points = json.loads((run / "curve.json").read_text())["points"]
    assert [(p["pairs_per_caption"], p["seed"]) for p in points] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [p["training"]["pairs"] for p in points] == [54, 54, 108, 108]
    with Image.open(run / "curve.png") as drawn:
        assert drawn.width > 500
    # the saved scorer gives the scores that were reported
    shutil.rmtree(tmp_path / "features")
    reward = rewards.load("comparative", path=run / "final", device="cpu")
    pictures = [Image.open(data / f"{number}.png") for number in range(6)]
    captions = [f"A {told} ball on the beach." for _ in pictures for told in COLOURS]
    columns = [picture for picture in pictures for _ in COLOURS]
    scores = np.array(reward(captions, images=columns)).reshape(6, 3)
    assert scores.std() > 0
    isotonic = rewards.load("comparative", path=run / "final", calibration="isotonic", device="cpu")
    rated = np.array(isotonic(captions, images=columns))
    assert rated.min() >= 1.5
    assert rated.max() <= 4.5


def test_pictures_and_captions_are_encoded_once(data: Path, tmp_path: Path) -> None:
    main(command(data, tmp_path / "first"))
    copy = tmp_path / "elsewhere"
    shutil.copytree(data, copy)
    for picture in copy.glob("*.png"):
        picture.unlink()  # what is not opened is not missed
    main(command(copy, tmp_path / "second"))
    first, second = (json.loads((tmp_path / run / "report.json").read_text()) for run in ("first", "second"))
    assert first == second


def test_grids_of_rlcap_features_do_as_well(data: Path, tmp_path: Path) -> None:
    captions = [{"image": f"{number}.png", "captions": []} for number in range(30)]
    listed = data / "captions.jsonl"
    listed.write_text("\n".join(map(json.dumps, captions)))
    grids = ["--vision", str(data / "resnet"), "--data", str(listed), "--output", str(tmp_path / "grids")]
    main(["features", *grids, "--device", "cpu"])
    main(command(data, tmp_path / "a" / "pooled", "--loss", "mse"))
    main(command(data, tmp_path / "b" / "grids", "--loss", "mse", "--picture_features", str(tmp_path / "grids")))
    pooled, own = (json.loads((tmp_path / run / "report.json").read_text()) for run in ("a/pooled", "b/grids"))
    assert own["test"]["pearson"] == pytest.approx(pooled["test"]["pearson"], abs=0.02)  # fp16 of grids, not of means
    assert "score" in own["errors"]


def test_what_the_user_got_wrong_is_one_message(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(command(data, tmp_path / "run"))
    for arguments, message in (
        (command(data, tmp_path / "run", "--margin", "2"), "other settings (margin: 1.0 there, 2.0 now)"),
        (command(data, tmp_path / "other", "--lowercase", "false"), "captions of another sentence encoder or spelling"),
        (["reward", "comparativ"], "no reward 'comparativ' to train (did you mean 'comparative'?); there are"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert message in capsys.readouterr().err


def test_the_help_of_the_group_names_its_rewards(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["reward", "--help"])
    assert end.value.code == 0
    assert "comparative" in capsys.readouterr().out


def test_what_is_missing_at_the_end_is_said_at_the_start(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library, more, said in (
        ("matplotlib", ("--curve", "1"), "a plot needs matplotlib"),
        ("sklearn", (), "calibration needs scikit-learn"),
    ):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, library, None)
            with pytest.raises(ValueError, match=said):
                main([*command(data, tmp_path / "run", *more), "--debug"])
    assert not (tmp_path / "features").exists()  # nothing was encoded


def test_several_processes_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="comparative runs in one process, and WORLD_SIZE is 2"):
        main([*command(data, tmp_path / "run"), "--debug"])
    assert not (tmp_path / "run").exists()
