"""Folders that appear whole or not at all, and which of them a run goes on from."""

from pathlib import Path

import pytest

from rlcap.training import checkpoints


def write(run_dir: Path, step: int, text: str = "weights") -> Path:
    target = run_dir / f"checkpoint-{step}"
    with checkpoints.whole_directory(target) as folder:
        (folder / "nested").mkdir()
        (folder / "nested" / "model.bin").write_text(text)
    return target


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = write(tmp_path, 1)
    (target / "old.bin").write_text("x")
    write(tmp_path, 1, "other")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert sorted(path.name for path in target.iterdir()) == ["complete.json", "nested"]
    assert (target / "nested" / "model.bin").read_text() == "other"


def test_an_error_inside_leaves_what_stood_there(tmp_path: Path) -> None:
    target = write(tmp_path, 1)
    with pytest.raises(OSError, match="disk full"), checkpoints.whole_directory(target):
        raise OSError("disk full")
    assert checkpoints.damage(target) is None
    assert checkpoints.checkpoints(tmp_path) == [target]
    write(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: (path / "nested" / "model.bin").write_text("weightz"), "nested/model.bin is not as it was"),
        (lambda path: (path / "nested" / "model.bin").unlink(), "nested/model.bin is missing"),
        (lambda path: (path / "complete.json").unlink(), "complete.json is missing: it was never finished"),
        (lambda path: (path / "complete.json").write_text("{"), "complete.json cannot be read"),
    ],
)
def test_a_damaged_one_is_named_and_the_one_before_used(
    harm, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier, newest = write(tmp_path, 9), write(tmp_path, 10)  # 10 is newer than 9, whatever their names' order
    (tmp_path / "checkpoint-11.unfinished").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert checkpoints.last_complete(tmp_path) == newest
    harm(newest)
    assert checkpoints.last_complete(tmp_path) == earlier
    assert f"{newest} is left aside: {told}" in capsys.readouterr().out
    harm(earlier)
    assert checkpoints.last_complete(tmp_path) is None


def test_the_newest_are_kept_and_later_damaged_ones_do_not_count(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8, 12):
        write(tmp_path, step)
    checkpoints.rotate(tmp_path, None, 8)
    checkpoints.rotate(tmp_path, 2, 8)  # the run has just written 8; 12 is what a damaged one left
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == [
        "checkpoint-6",
        "checkpoint-8",
        "checkpoint-12",
    ]
