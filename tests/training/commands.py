"""`rlcap` commands in processes of their own, which can be killed at a chosen moment.

The processes are forked from a server that has imported the libraries once (multiprocessing's `forkserver`), so that
a run that takes seconds does not wait ten for its imports.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PRELOADED = [
    *("datasets", "trl", "rlcap.training.run", "rlcap.training.scst", "rlcap.training.xe", "warm"),
    *("pycocoevalcap.cider.cider", "transformers.models.vit.modeling_vit", "transformers.models.gpt2.modeling_gpt2"),
]


@dataclass(frozen=True)
class Moment:
    """The `count`-th time that an audit event (`open`, `os.rename` …) is of paths in which `pattern` is found.

    The paths are joined by a space: "source destination" for `os.rename`, which `os.replace` and Path.rename are too.
    `signal` is then sent, with `to_all` by another process to the command's data workers too.
    """

    event: str
    pattern: str
    count: int = 1
    signal: int = signal.SIGKILL
    to_all: bool = False


@dataclass(frozen=True)
class Result:
    """How a command ended, -9 where it was killed, and what it said."""

    code: int
    out: str
    err: str


def rlcap(
    arguments: list[Any],
    folder: Path,
    kill_at: Moment | None = None,
    paths: tuple[Path, ...] = (),
    working_directory: Path | None = None,
) -> Result:
    """Runs `rlcap ARGUMENTS` and sends it the signal of `kill_at` then; `paths` are put on its `sys.path`.

    Its output goes through `folder`; the working directory is that of the tests where none is given.
    """
    process = start(arguments, folder, kill_at, paths, working_directory)
    process.join()
    return result(process, folder)


def start(
    arguments: list[Any],
    folder: Path,
    kill_at: Moment | None = None,
    paths: tuple[Path, ...] = (),
    working_directory: Path | None = None,
) -> ForkServerProcess:
    """Starts what `rlcap` runs, as the leader of a process group of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    process = context.Process(
        target=_run,
        args=(list(map(str, arguments)), str(out), str(err), kill_at, [str(path) for path in paths], working_directory),
    )
    process.start()
    return process


def result(process: ForkServerProcess, folder: Path) -> Result:
    """How a command that has ended did so."""
    assert process.exitcode is not None
    return Result(process.exitcode, (folder / "stdout.txt").read_text(), (folder / "stderr.txt").read_text())


def _run(
    arguments: list[str], out: str, err: str, kill_at: Moment | None, paths: list[str], working_directory: Path | None
) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background jobs ignore it, and so would this
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    sys.argv = ["rlcap", *arguments]
    sys.path[:0] = paths
    if working_directory is not None:
        os.chdir(working_directory)
    multiprocessing.set_start_method("fork", force=True)  # for data workers, as in a process that was not forked
    import torch

    from rlcap.cli import main

    torch.set_num_threads(1)
    if kill_at is not None:
        _kill(kill_at)
    main(arguments)


def _kill(moment: Moment) -> None:
    seen, process = 0, os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == moment.event and re.search(moment.pattern, " ".join(map(str, arguments[:2]))):
            seen += 1
            if seen == moment.count and os.getpid() == process:  # data workers inherit the hook, not the fate
                if moment.to_all:
                    subprocess.run(["kill", f"-{int(moment.signal)}", "--", f"-{process}"], check=False)
                else:
                    os.kill(process, moment.signal)

    sys.addaudithook(hook)
