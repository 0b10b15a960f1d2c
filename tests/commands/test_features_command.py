"""`rlcap features`, killed and started again, and training on what it wrote without any picture."""

import json
import shutil
from pathlib import Path

import pytest
from commands import Moment, rlcap
from tiny import CAPTIONS, pictures, tiny_grid_transformer

from rlcap.cli import main
from rlcap.data.features import FeatureStore


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve pictures in a folder, and their captions."""
    (tmp_path / "images").mkdir()
    for index, picture in enumerate(pictures(12)):
        picture.save(tmp_path / "images" / f"{index}.png")
    rows = [
        {"image_id": f"p{i}", "image": f"{i}.png", "references": CAPTIONS[:2], "split": "val" if i > 9 else "train"}
        for i in range(12)
    ]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "captions.jsonl"


def test_killed_and_started_again(data: Path, tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    captioner.save_pretrained(tmp_path / "captioner")
    command = ["features", "--captioner", tmp_path / "captioner", "--data", data, "--batch-size", 2, "--output"]
    killed = rlcap([*command, tmp_path / "killed"], tmp_path, Moment("open", r"/7\.png"))
    assert killed.code == -9
    done = rlcap([*command, tmp_path / "killed"], tmp_path)
    assert done.code == 0, done.err
    assert "features of 12 pictures" in done.out
    main([str(argument) for argument in [*command, tmp_path / "whole"]])
    killed_store, whole = FeatureStore(tmp_path / "killed"), FeatureStore(tmp_path / "whole")
    for index in range(12):
        assert (killed_store[f"p{index}"] == whole[f"p{index}"]).all()


def test_each_rank_says_what_it_did(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["features", "--help"])
    assert "share the pictures" in " ".join(capsys.readouterr().out.split())
    tiny_grid_transformer("resnet").save_pretrained(tmp_path / "captioner")
    (tmp_path / "images" / "4.png").write_text("no picture")
    command = ["features", "--captioner", tmp_path / "captioner", "--data", data, "--output", tmp_path / "features"]
    ranks = {"WORLD_SIZE": "3", "RANK": "1", "ACCELERATE_USE_CPU": "true"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    main([str(argument) for argument in command])
    out, err = capsys.readouterr()
    assert "rlcap: skipped a picture: " in err
    said = " ".join(out.split())
    assert f"rank 1 of 3 is done: features of 3 of its 4 pictures are in {tmp_path / 'features'}" in said


@pytest.mark.parametrize("command", ["xe", "scst"])
def test_training_reads_them_and_opens_no_picture(command: str, data: Path, tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    captioner.save_pretrained(tmp_path / "captioner")
    vision = tmp_path / "captioner" / "vision"
    main(["features", "--vision", str(vision), "--data", str(data), "--output", str(tmp_path / "features")])
    shutil.rmtree(tmp_path / "images")
    model = {"xe": ["--vision", vision, "--d_model", 16, "--heads", 2, "--encoder_layers", 1]}
    options = {"features": tmp_path / "features", "freeze": "vision", "output_dir": tmp_path / "run", "data": data}
    steps = {"max_steps": 2, "per_device_train_batch_size": 3, "eval_strategy": "steps", "eval_steps": 2}
    quiet = {"use_cpu": True, "disable_tqdm": True, "max_caption_length": 24, "save_strategy": "no"}
    arguments = [text for key, value in {**options, **steps, **quiet}.items() for text in (f"--{key}", value)]
    chosen = model.get(command, ["--captioner", tmp_path / "captioner"])
    main([str(argument) for argument in [command, *chosen, *arguments]])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["eval/captions"] == 2
    assert (tmp_path / "run" / "best").is_dir()
