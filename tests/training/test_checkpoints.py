"""Folders that appear whole or not at all, and which of them a run goes on from."""

import shutil
from pathlib import Path

import pytest
from ranks import on_ranks

from rlcap.training import checkpoints


def write(run_dir: Path, step: int, text: str = "weights") -> Path:
    target = run_dir / f"checkpoint-{step}"
    with checkpoints.whole_directory(target) as folder:
        (folder / "nested").mkdir()
        (folder / "nested" / "model.bin").write_text(text)
    return target


def steps(run_dir: Path) -> list[int]:
    return [int(path.name.removeprefix("checkpoint-")) for path in checkpoints.checkpoints(run_dir)]


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


def test_one_that_cannot_be_read_is_left_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier, newest = write(tmp_path, 1), write(tmp_path, 2)
    (newest / "nested" / "model.bin").unlink()
    (newest / "nested" / "model.bin").symlink_to("/proc/self/mem")  # there, and EIO when it is read
    assert checkpoints.last_complete(tmp_path) == earlier
    assert f"{newest} is left aside: it cannot be read (Input/output error)" in capsys.readouterr().out


def test_damaged_ones_are_not_among_those_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        write(tmp_path / "written", step)
    run = shutil.copytree(tmp_path / "written", tmp_path / "run")  # as a later start finds it
    (run / "checkpoint-4" / "nested" / "model.bin").write_text("weightz")
    (run / "checkpoint-8" / "complete.json").unlink()
    checkpoints.rotate(run, 2, 6)  # going on from 6
    assert steps(run) == [2, 4, 6, 8]
    write(run, 9)
    checkpoints.rotate(run, 2, 9)
    assert steps(run) == [6, 8, 9]
    write(run, 12)
    checkpoints.rotate(run, 2, 12)
    assert steps(run) == [9, 12]


def test_the_newest_are_kept_and_later_damaged_ones_do_not_count(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8, 12):
        write(tmp_path, step)
    checkpoints.rotate(tmp_path, None, 8)
    checkpoints.rotate(tmp_path, 2, 8)  # the run has just written 8; 12 is what a damaged one left
    assert steps(tmp_path) == [6, 8, 12]


@pytest.mark.slow
def test_the_first_rank_decides_for_all(tmp_path: Path) -> None:
    """On a shared disk one rank may see what another does not see yet."""
    seen = write(tmp_path / "0", 2)
    write(tmp_path / "1", 3)
    on_ranks(goes_on_from, tmp_path)
    assert {(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)} == {str(seen)}


def goes_on_from(rank: int, folder: Path) -> None:
    (folder / f"{rank}.txt").write_text(str(checkpoints.last_complete(folder / str(rank))))
