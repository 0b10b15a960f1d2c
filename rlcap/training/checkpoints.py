"""Checkpoints that appear whole or not at all: written beside, checksummed, renamed; only what is complete is read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from rlcap.disk import DiskFull, writing
from rlcap.launching import process_group
from rlcap.tracking.run_directory import write_json

MARKER = "complete.json"
PREFIX = "checkpoint-"
STATE = "rlcap_state_"
UNFINISHED = ".unfinished"
SAVING = f"saving{UNFINISHED}"  # the folder in which the checkpoint of a step is written

# What this process has written, or looked at and found whole: to look takes as long as to write.
_known: set[Path] = set()


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Gives a folder beside `target` to write into, and renames it to `target` once the block has ended without error.

    What stood at `target` is replaced. A process killed inside the block leaves a folder ending in `.unfinished`, which
    nothing reads and the next writer removes. Raises DiskFull where there is no room for it.
    """
    unfinished = target.with_name(target.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    with room_for(target.name, unfinished):
        unfinished.mkdir(parents=True)
        yield unfinished
        publish(unfinished, target)


@contextmanager
def room_for(what: str, unfinished: Path) -> Iterator[None]:
    """Raises DiskFull where the block finds no room for what it writes into `unfinished`, which is then removed.

    So the run can note its end, and what is complete stays.
    """
    try:
        with writing(what, unfinished.parent):
            yield
    except DiskFull:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def publish(written: Path, target: Path) -> None:
    """Marks a written folder as complete and renames it to `target`, replacing what stood there."""
    mark_complete(written)
    replaced = target.with_name(target.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        target.rename(replaced)
    written.rename(target)
    _known.add(target)
    shutil.rmtree(replaced, ignore_errors=True)


def mark_complete(directory: Path) -> None:
    """Writes the checksums of all files of a folder into its completion marker, after flushing them to the disk."""
    checksums = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != MARKER:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            checksums[path.relative_to(directory).as_posix()] = _checksum(path)
    marker = directory / MARKER
    with marker.open("w", encoding="utf-8") as file:
        json.dump({"sha256": checksums}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def write_state(directory: Path, rank: int, state: dict[str, Any]) -> None:
    """Writes what one process must know to go on: tensors as safetensors, where there are any, the rest as JSON.

    Raises TypeError for what JSON cannot hold, tensors inside lists and dicts among it.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    if tensors:
        save_file(tensors, directory / f"{STATE}{rank}.safetensors")
    write_json(directory / f"{STATE}{rank}.json", {name: state[name] for name in state if name not in tensors})


def read_state(directory: Path, rank: int) -> dict[str, Any]:
    """What `write_state` wrote, tensors on the CPU. Raises ValueError where the checkpoint is of fewer processes."""
    path = directory / f"{STATE}{rank}.json"
    if not path.is_file():
        raise ValueError(_go_on_with(directory))
    tensors = path.with_suffix(".safetensors")
    return json.loads(path.read_text(encoding="utf-8")) | (load_file(tensors) if tensors.is_file() else {})


def require_processes(directory: Path, number: int) -> None:
    """Raises ValueError where a checkpoint was written by another number of processes."""
    if len(_states(directory)) != number:
        raise ValueError(_go_on_with(directory))


def _states(directory: Path) -> list[Path]:
    return list(directory.glob(f"{STATE}*.json"))


def _go_on_with(directory: Path) -> str:
    return f"{directory} was written by {len(_states(directory))} process(es): go on with as many"


def damage(directory: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where all files are as they were written."""
    try:
        return _damage(directory)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def _damage(directory: Path) -> str | None:
    marker = directory / MARKER
    if not marker.is_file():
        return f"{MARKER} is missing: it was never finished"
    try:
        checksums = json.loads(marker.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        return f"{MARKER} cannot be read"
    for name, expected in checksums.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if _checksum(path) != expected:
            return f"{name} is not as it was written"
    return None


def last_complete(output_dir: Path) -> Path | None:
    """The newest undamaged checkpoint of a run, or None; a damaged one is named and the one before it used.

    In a process group all ranks call it: the first one looks, so that none goes on from another than the others.
    """
    return process_group.by_first(lambda: _last_complete(output_dir))


def _last_complete(output_dir: Path) -> Path | None:
    for path in reversed(checkpoints(output_dir)):
        wrong = damage(path)
        if wrong is None:
            _known.add(path)
            return path
        print(f"rlcap: {path} is left aside: {wrong}", flush=True)
    return None


def last_known(output_dir: Path) -> Path | None:
    """The newest checkpoint that this process has written or found whole, without looking again."""
    return next((path for path in reversed(checkpoints(output_dir)) if path in _known), None)


def rotate(output_dir: Path, keep: int | None, step: int) -> None:
    """Removes what is older than the newest `keep` undamaged checkpoints up to `step`; None keeps all.

    Later ones are damaged, or the run would have gone on from them: they do not count, and are written anew.
    """
    if keep is None:
        return
    whole = 0
    for path in reversed([path for path in checkpoints(output_dir) if _step(path) <= step]):
        if whole == keep:
            shutil.rmtree(path)
        elif path in _known or damage(path) is None:
            _known.add(path)
            whole += 1


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, complete or not."""
    found = [path for path in output_dir.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    return int(path.name[len(PREFIX) :])


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
