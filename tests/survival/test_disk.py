"""A disk that is full, or cannot be written to: told with its folder, what is complete stays, and runs go on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import rlcap
from disks import fill, mounted
from test_resume import arguments, assert_same

from rlcap.cli import main
from rlcap.data.features import FeatureWriter
from rlcap.data.parts import Parts
from rlcap.disk import DiskFull, writing
from rlcap.tracking import run_directory
from rlcap.training import checkpoints

MB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """64 MB."""
    with mounted(tmp_path / "disk", "size=64m") as folder:
        yield folder


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_checkpoint_that_finds_no_room(scenes: Path, captioner_folder: Path, tmp_path: Path, disk: Path) -> None:
    options = {"max_steps": 6, "save_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 4}
    whole, full = tmp_path / "whole", disk / "run"
    done = rlcap(["xe", *arguments(scenes, captioner_folder, whole, options)], tmp_path)
    assert done.code == 0, done.err
    needed = size(whole / "checkpoint-6")

    command = ["xe", *arguments(scenes, captioner_folder, full, options)]
    for room in (1.2, 1.6):  # of the second checkpoint the weights, which are written first, have no room; and have
        shutil.rmtree(full, ignore_errors=True)
        fill(disk, int(room * needed))
        done = rlcap(command, tmp_path)
        assert done.code == 1
        assert f"rlcap: checkpoint-4 could not be written to {full}: the disk is full" in done.err
        assert "Traceback" not in done.err
        assert [path.name for path in checkpoints.checkpoints(full)] == ["checkpoint-2"]
        assert checkpoints.last_complete(full) == full / "checkpoint-2"
        assert not (full / checkpoints.SAVING).exists()  # its room is given back
    (disk / "filler").unlink()
    done = rlcap(command, tmp_path)
    assert done.code == 0, done.err
    assert f"going on from {full / 'checkpoint-2'}" in done.out
    assert_same(full, whole, folders=("final",))


def append_steps(path: Path, last: int) -> None:
    for step in range(2, last):
        run_directory.append_metrics(path, step, {"loss": 1.0})


def test_files_that_find_no_room_leave_what_stood_there(disk: Path) -> None:
    file = disk / "captions.json"
    run_directory.write_json(file, {"a": "dog"})
    run_directory.append_metrics(disk / "metrics.jsonl", 1, {"loss": 1.0})
    with Parts(disk / "scores.json", {"of": "this"}).part(0) as part:
        part.append({"units": [0]})
        fill(disk, 0)
        with pytest.raises(DiskFull, match=rf"captions.json could not be written to {disk}: the disk is full \(0.0 MB"):
            run_directory.write_json(file, {"a": "dog" * MB})
        with pytest.raises(DiskFull, match=rf"results of 0.jsonl could not be written to {disk}/scores.json.parts"):
            part.append({"units": [1], "scores": [0.1] * MB})
        (disk / "filler").unlink()
    fill(disk, 0)
    with pytest.raises(DiskFull, match=rf"metrics.jsonl could not be written to {disk}"):
        append_steps(disk / "metrics.jsonl", 10_000)
    assert json.loads(file.read_text()) == {"a": "dog"}
    (disk / "filler").unlink()
    written = run_directory.read_metrics(disk / "metrics.jsonl")
    run_directory.append_metrics(disk / "metrics.jsonl", 10_000, {"loss": 1.0})
    assert [line["step"] for line in run_directory.read_metrics(disk / "metrics.jsonl")] == [
        *(line["step"] for line in written),
        10_000,
    ]


def write(writer: FeatureWriter, rows: list[int], grids: np.ndarray) -> None:
    writer.write(rows, grids, [1] * len(rows))
    writer.flush()


def test_features_that_find_no_room_can_be_gone_on_with(disk: Path) -> None:
    ids, grids = [str(number) for number in range(4)], np.ones((4, 1, 100, 1000), dtype=np.float32)
    writer = FeatureWriter(disk, "all", ids, 1)
    write(writer, [0, 1], grids[:2])
    fill(disk, 0)  # by somebody else: the room that was looked for at the start is gone
    with pytest.raises(DiskFull, match=f"the features could not be written to {disk}"), writing("the features", disk):
        write(writer, [2, 3], grids[2:])
    (disk / "filler").unlink()
    again = FeatureWriter(disk, "all", ids, 1)
    assert again.state.tolist() == [1, 1, 0, 0]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), writing("it", tmp_path):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(FileNotFoundError), writing("it", tmp_path):
        (tmp_path / "nowhere" / "file").write_text("x")


OUTPUTS = {
    "xe": ["--data", "nowhere.json", "--captioner", "nowhere", "--output_dir", "DISK/runs/xe"],
    "scst": ["--data", "nowhere.json", "--captioner", "nowhere", "--rewards", "bleu", "--output_dir", "DISK/run"],
    "rank-dpo": ["--data", "nowhere.json", "--captioner", "nowhere", "--output_dir", "DISK/run"],
    "reward": ["grammar", "--data", "nowhere.json", "--encoder", "nowhere", "--output_dir", "DISK/run"],
    "features": ["--data", "nowhere.json", "--vision", "nowhere", "--output", "DISK/features"],
    "caption": ["--captioner", "nowhere", "--images", "nowhere.png", "--output", "DISK/captions.json"],
    "score": [
        "--captions",
        "nowhere.json",
        "--data",
        "nowhere.json",
        "--reward",
        "bleu",
        "--output",
        "DISK/scores.json",
    ],
    "chains": ["--data", "nowhere.json", "--output", "DISK/chains.jsonl"],
    "positives captions": ["--captioner", "nowhere", "--data", "nowhere.json", "--output", "DISK/captions.jsonl"],
    "positives pictures": ["--model", "nowhere", "--data", "nowhere.json", "--output", "DISK"],
    "evaluate": ["--predictions", "nowhere.json", "--references", "nowhere.json", "--output", "DISK/scores.json"],
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_folder_that_cannot_be_written_to_is_told_first(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "ro") as disk:
        given = [text.replace("DISK", str(disk)) for text in OUTPUTS[command]]
        with pytest.raises(SystemExit) as end:
            main([*command.split(), *given])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "cannot be written to (Read-only file system)" in said
    assert "nowhere" not in said
