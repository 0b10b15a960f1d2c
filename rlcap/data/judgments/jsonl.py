"""One's own judgments as JSON lines: ratings of captions, or a better and a worse one."""

from pathlib import Path
from typing import Any

from rlcap.data.annotation_files import json_lines
from rlcap.data.judgments.judged import JudgedCaption, Judgments, rating_of
from rlcap.data.rows import shown
from rlcap.data.splits import split_name


def read(path: Path, images: Path) -> Judgments:
    """The judgments of a file whose lines have `caption` and `rating` or `ratings` (a number, or a list of one a
    person), or `better` and `worse`.

    Beside them `image` (a path) or `frames` (a list of them); `image_id` (default: the picture's name without its
    ending, of a clip its first path); `split`; and, of rated captions, `objectives`: name -> number, list of numbers,
    or null. Paths are under `images`. Raises ValueError naming the line.
    """
    judgments = Judgments()
    compared: dict[tuple[str, str, str | None], int] = {}
    for item, where in json_lines(path):
        image_id, pictures = _pictures(item, where)
        pictures = tuple(str(images / name) for name in pictures)
        split = item.get("split")
        if not isinstance(split, str | None):
            raise ValueError(f'{where}: "split" must be a text, not {shown(split)}')
        split = None if split is None else split_name(split)
        if "better" in item or "worse" in item:
            better, worse = (_text(item, key, where) for key in ("better", "worse"))
            pair = []
            for caption in (better, worse):
                place = compared.setdefault((image_id, caption, split), len(judgments.captions))
                if place == len(judgments.captions):
                    judgments.captions.append(JudgedCaption(image_id, pictures, caption, split=split))
                pair.append(place)
            judgments.preferences.append((pair[0], pair[1]))
            continue
        caption = _text(item, "caption", where)
        ratings = _ratings(item, where)
        judgments.captions.append(JudgedCaption(image_id, pictures, caption, ratings, split, _objectives(item, where)))
    return judgments


def _pictures(item: dict[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
    names = item["frames"] if "frames" in item else [item.get("image")]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{where} needs "image" (a path) or "frames" (a list of paths); it is {shown(item)}')
    image_id = item.get("image_id", names[0] if "frames" in item else Path(names[0]).stem)
    if isinstance(image_id, bool) or not isinstance(image_id, str | int):
        raise ValueError(f'{where}: "image_id" must be a text or a whole number, not {shown(image_id)}')
    return str(image_id), tuple(names)


def _ratings(item: dict[str, Any], where: str) -> tuple[float, ...]:
    key = "ratings" if "ratings" in item else "rating"
    if key not in item:
        raise ValueError(f'{where} has neither "ratings" (a list) nor "rating" nor "better" and "worse"')
    return _numbers(item[key], f'"{key}"', where)


def _objectives(item: dict[str, Any], where: str) -> dict[str, float]:
    objectives = item.get("objectives") or {}
    if not isinstance(objectives, dict):
        raise ValueError(f'{where}: "objectives" must be an object of names and numbers, not {shown(objectives)}')
    rated = {
        name: _numbers(value, f'"objectives.{name}"', where) for name, value in objectives.items() if value is not None
    }
    return {name: sum(numbers) / len(numbers) for name, numbers in rated.items()}


def _numbers(value: Any, name: str, where: str) -> tuple[float, ...]:
    """A number, or a list of them that is not empty."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{where}: {name} must be a number or a list of numbers, not {shown(value)}")
    return tuple(rating_of(own, where, name) for own in values)


def _text(item: dict[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{where}: "{key}" must be a text, not {shown(value)}')
    return value.strip()
