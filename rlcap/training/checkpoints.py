"""Checkpoints that appear whole or not at all: written beside, checksummed, renamed; only what is complete is read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = "complete.json"
PREFIX = "checkpoint-"
UNFINISHED = ".unfinished"


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Gives a folder beside `target` to write into, and renames it to `target` once the block has ended without error.

    What stood at `target` is replaced. A process killed inside the block leaves a folder ending in `.unfinished`, which
    nothing reads and the next writer removes.
    """
    unfinished = target.with_name(target.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    publish(unfinished, target)


def publish(written: Path, target: Path) -> None:
    """Marks a written folder as complete and renames it to `target`, replacing what stood there."""
    mark_complete(written)
    replaced = target.with_name(target.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        target.rename(replaced)
    written.rename(target)
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


def damage(directory: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where all files are as they were written."""
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
    """The newest undamaged checkpoint of a run, or None; a damaged one is named and the one before it used."""
    for path in reversed(checkpoints(output_dir)):
        wrong = damage(path)
        if wrong is None:
            return path
        print(f"rlcap: {path} is left aside: {wrong}", flush=True)
    return None


def rotate(output_dir: Path, keep: int | None, step: int) -> None:
    """Removes all but the newest `keep` checkpoints up to `step`; None keeps all.

    Later ones are damaged, or the run would have gone on from them: they do not count, and are written anew.
    """
    if keep is not None:
        upto = [path for path in checkpoints(output_dir) if _step(path) <= step]
        for path in upto[:-keep]:
            shutil.rmtree(path)


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, complete or not."""
    found = [path for path in output_dir.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    return int(path.name[len(PREFIX) :])


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
