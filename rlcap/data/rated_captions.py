"""Captions with ratings by people, as JSON lines."""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcap.data.rows import shown
from rlcap.data.splits import split_name


@dataclass(frozen=True)
class RatedCaption:
    """One caption of a picture, or of a clip's frames, with its overall rating and the objectives that were rated."""

    image_id: str
    pictures: tuple[str, ...]
    caption: str
    rating: float
    split: str = "train"
    objectives: dict[str, float] = field(default_factory=dict)


def load_rated_captions(source: str | os.PathLike[str], *, images: str | None = None) -> list[RatedCaption]:
    """Reads JSON lines with `image` (a path) or `frames` (paths in order), `caption`, `rating` (a number, or a list of
    which the mean counts) and, where there are any, `objectives` (name -> number), `image_id`, `split`.

    Objectives have the names that the data gives them; a row may lack some (or have null). Paths are under `images`,
    default the folder of `source`. Raises ValueError naming the line, and where splits share a picture.
    """
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of rated captions")
    folder = path.parent if images is None else Path(images)
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(_row(line, f"{path}: line {number}", folder))
    if not rows:
        raise ValueError(f"{path} has no rows")
    _refuse_shared_pictures(rows, path)
    return rows


def _row(line: str, where: str, folder: Path) -> RatedCaption:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(item, dict):
        raise ValueError(f"{where} must be an object, not {shown(item)}")
    pictures = item["frames"] if "frames" in item else [item.get("image")]
    if not isinstance(pictures, list) or not pictures or not all(isinstance(name, str) for name in pictures):
        raise ValueError(f'{where} needs "image" (a path) or "frames" (a list of paths); it is {shown(item)}')
    caption = item.get("caption")
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f'{where}: "caption" must be a text, not {shown(caption)}')
    objectives = item.get("objectives") or {}
    if not isinstance(objectives, dict):
        raise ValueError(f'{where}: "objectives" must be an object of names and numbers, not {shown(objectives)}')
    return RatedCaption(
        image_id=str(item.get("image_id", pictures[0])),
        pictures=tuple(str(folder / name) for name in pictures),
        caption=caption.strip(),
        rating=_number(item.get("rating"), "rating", where),
        split=split_name(str(item.get("split", "train"))),
        objectives={name: _number(v, f"objectives.{name}", where) for name, v in objectives.items() if v is not None},
    )


def _number(value: Any, key: str, where: str) -> float:
    """A number, or the mean of a list of them."""
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ValueError(f'{where}: "{key}" must be a number or a list of numbers, not {shown(value)}')
    mean = sum(numbers) / len(numbers)
    if not math.isfinite(mean):
        raise ValueError(f'{where}: "{key}" is {mean}')
    return mean


def _refuse_shared_pictures(rows: list[RatedCaption], path: Path) -> None:
    split_of: dict[str, str] = {}
    for row in rows:
        other = split_of.setdefault(row.image_id, row.split)
        if other != row.split:
            raise ValueError(
                f'{path}: the picture "{row.image_id}" is in the splits "{other}" and "{row.split}"; a model that has '
                "seen a picture is not tested on it: split by pictures"
            )
