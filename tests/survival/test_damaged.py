"""A checkpoint that the disk has spoilt is named, the one before it is used, and the end is the same."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import rlcap
from test_resume import arguments, assert_same

pytestmark = pytest.mark.slow


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARMS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut off": ("optimizer.pt", cut, "is not as it was written"),
    "one bit": ("model.safetensors", flip_a_bit, "is not as it was written"),
    "missing": ("rlcap_state_0.json", Path.unlink, "is missing"),
}


@pytest.fixture(scope="module")
def whole(scenes: Path, captioner_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that has ended, with the checkpoints of steps 4 and 6, and its command but for the folder."""
    folder = tmp_path_factory.mktemp("whole")
    options = {"max_steps": 6, "save_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 4}
    command = ["xe", *map(str, arguments(scenes, captioner_folder, folder / "run", options))]
    done = rlcap(command, folder)
    assert done.code == 0, done.err
    return folder / "run", command


@pytest.mark.parametrize("harm", HARMS)
def test_the_one_before_is_used(harm: str, whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    run, (file, damage, told) = tmp_path / "run", HARMS[harm]
    shutil.copytree(whole[0], run)
    damage(run / "checkpoint-6" / file)
    done = rlcap([str(run) if text == str(whole[0]) else text for text in whole[1]], tmp_path)
    assert done.code == 0, done.err
    assert f"{run / 'checkpoint-6'} is left aside: {file} {told}" in done.out
    assert f"going on from {run / 'checkpoint-4'}" in done.out
    assert_same(run, whole[0], folders=("final",))
