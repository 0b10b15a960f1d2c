"""Captions as JSON lines: one picture or clip a line, with all its captions or with one of them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlcap.data.rows import CaptionRow, shown, text_list

ID_KEYS = ("image_id", "id", "video")
CAPTION_KEYS = ("references", "captions", "caption")


def read_jsonl(path: Path, default_split: str = "train") -> Iterator[CaptionRow]:
    """Yield the rows of a JSON-lines file.

    A line has `image` (a path) or `frames` (paths, in order); `references`, `captions` or `caption` (a list, a text, or
    an empty list where there are none); `image_id`, `id` or `video` (without one, the picture's file name without its
    ending); and `split` (`default_split` where there is none). Other keys are left alone; empty lines are skipped.
    Raises ValueError naming the line.
    """
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}: line {number}"
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} is not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(item, dict):
                raise ValueError(f"{where} must be an object, not {shown(item)}")
            yield _row(item, where, default_split)


def _row(item: dict[str, Any], where: str, default_split: str) -> CaptionRow:
    visual = _visual(item, where)
    caption_key = next((key for key in CAPTION_KEYS if key in item), None)
    if caption_key is None:
        raise ValueError(
            f"{where} has no captions: give one of {', '.join(CAPTION_KEYS)} (an empty list where there are none); "
            f"its keys are {', '.join(map(str, item)) or 'none'}"
        )
    split = item.get("split", default_split)
    if not isinstance(split, str):
        raise ValueError(f'{where}: "split" must be a text, not {shown(split)}')
    return CaptionRow(
        image_id=_image_id(item, visual, where),
        visual=visual,
        references=text_list(item[caption_key], where, caption_key),
        split=split,
        where=where,
    )


def _visual(item: dict[str, Any], where: str) -> str | list[str]:
    if "frames" in item:
        frames = item["frames"]
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
            raise ValueError(f'{where}: "frames" must be a list of at least one path, not {shown(frames)}')
        return frames
    if isinstance(item.get("image"), str):
        return item["image"]
    if "image" in item:
        raise ValueError(f'{where}: "image" must be a path, not {shown(item["image"])}')
    if "video" in item:
        raise ValueError(f'{where} has a "video" and no "frames": give the paths of the frames to look at')
    raise ValueError(f'{where} has neither "image" nor "frames"; its keys are {", ".join(map(str, item)) or "none"}')


def _image_id(item: dict[str, Any], visual: str | list[str], where: str) -> str:
    for key in ID_KEYS:
        if key in item:
            if isinstance(item[key], bool) or not isinstance(item[key], str | int) or item[key] == "":
                raise ValueError(f'{where}: "{key}" must be a text or a whole number, not {shown(item[key])}')
            return str(item[key])
    if isinstance(visual, str):
        return os.path.splitext(os.path.basename(visual))[0]
    raise ValueError(f"{where} is a clip without a name: give one of {', '.join(ID_KEYS)}")
