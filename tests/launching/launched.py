"""Launchers in processes of their own, with what they need to run tiny trainings on this machine."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
TORCHRUN = ("-m", "torch.distributed.run")
ACCELERATE = ("-m", "accelerate.commands.launch")


def environment(**more: Any) -> dict[str, str]:
    """This one, as it would be outside of any launcher, and `more`."""
    foreign = ("ACCELERATE", "SLURM", "TORCHELASTIC")
    here = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {
        **here,
        "OMP_NUM_THREADS": "1",
        "PYTHON": sys.executable,
        **{key: str(value) for key, value in more.items()},
    }


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: list[Any], log: Path, **more: Any) -> subprocess.Popen[bytes]:
    """Starts a command whose output, of both kinds, goes into `log`."""
    with log.open("wb") as file:
        return subprocess.Popen(list(map(str, command)), env=environment(**more), stdout=file, stderr=file)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits till a run has logged a step; AssertionError with what it said where it ends before."""
    metrics = run / "metrics.jsonl"
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) >= step):
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.01)
