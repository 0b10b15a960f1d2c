"""Small and read-only disks: tmpfs, mounted where the tests run as root, skipped elsewhere."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(at: Path, *options: str) -> Iterator[Path]:
    """A tmpfs at a folder, which is made; skips the test where nothing can be mounted."""
    at.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(at)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Leaves `leave` bytes free on a disk, by a file `filler`, which may be there already."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    state = os.statvfs(disk)
    block = 2**12
    with filler.open("wb") as file:
        for _ in range((state.f_bavail * state.f_frsize - leave) // block):
            file.write(bytes(block))
