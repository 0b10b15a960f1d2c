"""The files of a run: `run.json` says what was run, `metrics.jsonl` what it measured; a kill at any moment is fine."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlcap.disk import writing

RUN_FILE = "run.json"
# Distributions whose version can change a number.
PACKAGES = (
    *("rlcap", "torch", "torchvision", "transformers", "accelerate", "deepspeed", "trl", "peft", "datasets"),
    *(
        "tokenizers",
        "numpy",
        "scipy",
        "scikit-learn",
        "pillow",
        "av",
        "open_clip_torch",
        "diffusers",
        "pycocoevalcap",
        "harper-py",
        "language-tool-python",
        "wandb",
        "scikit-learn",
        "scipy",
        "spacy",
    ),
)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that appears whole or not at all; missing folders are made. Raises TypeError for non-JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file (UTF-8) that appears whole or not at all; missing folders are made. Raises DiskFull."""
    unfinished = path.with_name(path.name + ".unfinished")
    with writing(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)


def write_run(run_dir: Path, *, command: str, settings: Mapping[str, Any], seed: int) -> None:
    """Writes `run.json`: command, settings as given, seed, library versions, git commit, and when it was started.

    `starts` lists every start of the run (UTC), the first one first: a resume adds a line to it.
    """
    previous = read_run(run_dir)
    starts = previous["starts"] if previous else []
    run = {
        "command": command,
        "arguments": _without_tokens(sys.argv),
        "settings": dict(settings),
        "seed": seed,
        "versions": library_versions(),
        "git": git_state(),
        "starts": [*starts, datetime.now(UTC).isoformat(timespec="seconds")],
    }
    write_json(run_dir / RUN_FILE, run)


def read_run(run_dir: Path) -> dict[str, Any] | None:
    """What `write_run` wrote, or None where the folder holds no run. Raises ValueError where the file is another's."""
    path = run_dir / RUN_FILE
    if not path.is_file():
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it, or choose another output_dir") from error
    if not isinstance(run, dict) or not {"settings", "seed", "starts"} <= run.keys():
        raise ValueError(f"{path} was not written by rlcap; remove it, or choose another output_dir")
    return run


def has_begun(run_dir: Path) -> bool:
    """Whether a run in the folder has left something that another one would overwrite."""
    return any((run_dir / name).exists() for name in ("metrics.jsonl", "final"))


def refuse_another_command(run_dir: Path, command: str) -> None:
    """Raises ValueError where the folder holds a run of another command than `rlcap COMMAND`."""
    previous = read_run(run_dir)
    there = command if previous is None else previous.get("command", command)
    if there != command and has_begun(run_dir):
        raise ValueError(
            f"{run_dir} holds a run of `rlcap {there}`; you started `rlcap {command}`: choose another output_dir, or "
            "remove the folder"
        )


def append_metrics(path: Path, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends one line to `metrics.jsonl`: an object with `step` and the metrics, keys sorted, on the disk on return.

    Floats are written by repr, so they read back as the same bits; NaN and infinities, which JSON has not, as null. A
    line left half-written by a kill is removed first.
    """
    record = {name: _finite(value) for name, value in metrics.items()} | {"step": step}
    line = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _drop_half_line(file)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, less a half-written last one. Raises ValueError naming a line that is not JSON."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not JSON ({error}); remove the line to go on") from error
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise ValueError(f"{path}, line {number} has no whole number under 'step'; remove the line to go on")
        records.append(record)
    return records


def truncate_metrics(path: Path, last_step: int) -> None:
    """Drops the lines of steps after `last_step`, and a half-written last line: what a resume will measure again.

    A missing file stays missing; -1 empties it. Raises ValueError naming a line in the middle that is not JSON.
    """
    if path.is_file():
        steps = [record["step"] for record in read_metrics(path)]
        lines = path.read_text(encoding="utf-8").split("\n")[: len(steps)]
        kept = [line for step, line in zip(steps, lines, strict=True) if step <= last_step]
        write_text(path, "".join(f"{line}\n" for line in kept))


def library_versions() -> dict[str, str]:
    """Python's version, and those of the installed libraries that can change a number."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether files differ from it; None outside of a git repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "modified": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet
        return None


def _without_tokens(arguments: Sequence[str]) -> list[str]:
    """A command line without what stands behind `--…_token`."""
    kept: list[str] = []
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        secret = key.startswith("--") and key.endswith("_token")
        follows = bool(kept) and kept[-1].startswith("--") and kept[-1].endswith("_token")
        kept.append(f"{key}=***" if secret and equals else "***" if follows else argument)
    return kept


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drop_half_line(file: Any) -> None:
    """Cuts a file that is open for appending back to the end of its last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            file.truncate(start + newline + 1)
            return
        end = start
    file.truncate(0)
