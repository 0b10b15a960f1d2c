"""Reading run folders for a report: what `rlcap xe` and `rlcap scst` left there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcap.tracking import run_directory
from rlcap.tracking.evaluated_pictures import EvaluatedPicture, pictures_file, read_pictures
from rlcap.tracking.evaluations import best_step, evaluation_records


@dataclass(frozen=True)
class Run:
    """One run folder.

    described    run.json; records: the lines of metrics.jsonl
    evaluations  step -> image id -> caption, in the order of the steps
    pictures     image id -> its files and references; empty where the run has not kept them
    """

    name: str
    folder: Path
    described: dict[str, Any]
    records: list[dict[str, Any]]
    evaluations: dict[int, dict[str, str]]
    pictures: dict[str, EvaluatedPicture]

    @property
    def best_step(self) -> int | None:
        """The step of the evaluation that `best/` comes from; None without evaluations."""
        return best_step(evaluation_records(self.records), self.described["settings"])


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders, named by their last part, or by their whole path where two have the same.

    Raises ValueError naming a folder that holds no run, is given twice, or a file in it that cannot be read.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder, real in zip(folders, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ValueError(f"{folder} is named twice")
    names = [real.name for real in resolved]
    return [
        _read(folder, str(folder) if names.count(name) > 1 else name)
        for folder, name in zip(folders, names, strict=True)
    ]


def _read(folder: Path, name: str) -> Run:
    described = run_directory.read_run(folder)
    if described is None:
        raise ValueError(f"{folder} holds no run: there is no {run_directory.RUN_FILE} in it")
    return Run(
        name,
        folder,
        described,
        run_directory.read_metrics(folder / "metrics.jsonl"),
        {int(path.stem.removeprefix("eval-")): _captions(path) for path in _evaluations(folder)},
        read_pictures(pictures_file(folder)),
    )


def _evaluations(folder: Path) -> list[Path]:
    found = (folder / "captions").glob("eval-*.json")
    numbered = [path for path in found if path.stem.removeprefix("eval-").isdecimal()]
    return sorted(numbered, key=lambda path: int(path.stem.removeprefix("eval-")))


def _captions(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it to go on without it") from error
    if not isinstance(content, dict) or not all(isinstance(caption, str) for caption in content.values()):
        raise ValueError(f"{path} is not image id -> caption; remove it to go on without it")
    return content
