"""`captions/eval-pictures.json`: the pictures and references behind a run's validation captions, kept with the run.

So a run can be looked at without its data set's reader, wherever the captions came from.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlcap.tracking import run_directory


@dataclass(frozen=True)
class EvaluatedPicture:
    """`files`: the picture, or the frames of a clip, as absolute paths; empty where the pictures are in no file."""

    files: list[str]
    references: list[str]


def pictures_file(run_dir: Path, prefix: str = "eval") -> Path:
    """Where the pictures of the captions `captions/<prefix>-<step>.json` are described."""
    return run_dir / "captions" / f"{prefix}-pictures.json"


def write_pictures(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes image_id -> files and references of dataset rows; the file appears whole or not at all."""
    run_directory.write_json(path, {str(row["image_id"]): asdict(_picture(row)) for row in rows})


def read_pictures(path: Path) -> dict[str, EvaluatedPicture]:
    """What `write_pictures` wrote; empty where there is no file. Raises ValueError where the file is another's."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            image_id: EvaluatedPicture(_texts(own["files"]), _texts(own["references"]))
            for image_id, own in content.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not image id -> files and references ({error}); remove it, and evaluate the run again"
        ) from error


def _picture(row: Mapping[str, Any]) -> EvaluatedPicture:
    visual = row.get("frames") or [row.get("image")]
    files = [os.path.abspath(file) for file in visual if isinstance(file, str | os.PathLike)]
    return EvaluatedPicture(files, list(row["references"]))


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"{value!r:.60} is no list of texts")
    return value
