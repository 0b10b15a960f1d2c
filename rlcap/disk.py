"""Writing that fails for the disk's sake: full, over its quota, or not to be written to, told with the place.

Libraries tell a full disk each in its own way (safetensors by an error of its own, torch.save by a RuntimeError that
does not say why), and none of them names the folder.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlcap.failures import Failure

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is larger than files may be here",
}
_NUMBER = re.compile(r"os error (\d+)")  # safetensors, tokenizers: Rust's words for an errno
_TORCH = re.compile(r"PytorchStreamWriter failed writing|unexpected pos|iostream error")
LITTLE = 2**20  # bytes that are free on a disk that torch.save could not write to


class DiskFull(Failure):
    """Nothing more can be written at a place; the message says where, why and what to do."""


@contextmanager
def writing(what: str, path: Path, advice: str = "Free some space and give the same command again") -> Iterator[None]:
    """Raises DiskFull, naming `what` and the folder, where the block fails because there is no room at `path`.

    Other errors, and a DiskFull of a block inside, are left as they are.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        reason = _reason(error, path)
        if reason is None:
            raise
        raise DiskFull(f"{what} could not be written to {path}: {reason} ({_room(path)}). {advice}") from error


def require_writable(folder: Path, what: str) -> None:
    """Raises ValueError, which begins with `what`, where a folder cannot be written into, or not be made."""
    there = next(own for own in (folder, *folder.absolute().parents) if own.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        raise ValueError(
            f"{what} {folder} cannot be written to ({error.strerror}): choose another one, or make it writable"
        ) from error


def _reason(error: Exception, path: Path) -> str | None:
    """Why there is no room, in words, or None where the error is about something else."""
    if isinstance(error, OSError) and error.errno in FULL:
        return FULL[error.errno]
    text = str(error)
    number = _NUMBER.search(text)
    if number and int(number[1]) in FULL:
        return FULL[int(number[1])]
    if isinstance(error, RuntimeError) and _TORCH.search(text) and _free(path) < LITTLE:
        return FULL[errno.ENOSPC]
    return None


def _free(path: Path) -> int:
    there = next(own for own in (path, *path.parents) if own.exists())
    return shutil.disk_usage(there).free


def _room(path: Path) -> str:
    try:
        return f"{_free(path) / 1e6:,.1f} MB free"
    except OSError as error:
        return os.strerror(error.errno or 0)
