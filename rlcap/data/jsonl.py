"""Captions as JSON lines: one picture or clip a line, with all its captions or with one of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlcap.data.annotation_files import json_lines
from rlcap.data.columns import Columns, captions_of, text_of, timestamps_of, value_of
from rlcap.data.rows import CaptionRow, shown, text_list
from rlcap.data.splits import split_name

ID_KEYS = ("image_id", "id", "video")
CAPTION_KEYS = ("references", "captions", "caption")


def read_jsonl(
    path: Path, default_split: str = "train", columns: Columns | None = None, more: Sequence[str] = ()
) -> Iterator[CaptionRow]:
    """Yield the rows of a JSON-lines file.

    A line has `image` (a path), `frames` (paths, in order) or `video` (a path, and `timestamps` in seconds where only
    certain frames count); `references`, `captions` or `caption` (a list, a text, or an empty list where there are
    none); `image_id`, `id` or, beside frames, `video` (without one, the file's name without its ending); and `split`
    (`default_split` where there is none). `columns` names other keys. Further keys are left alone; empty lines are
    skipped. With `more` the rows carry those keys, as they are, instead of captions, and a line may have no picture
    where it has an id. Raises ValueError naming the line.
    """
    for item, where in json_lines(path):
        keys = tuple(map(str, item))
        item = item if columns is None else _renamed(item, columns, where)
        yield _with_more(item, where, default_split, more, keys) if more else _row(item, where, default_split, keys)


def _renamed(item: dict[str, Any], columns: Columns, where: str) -> dict[str, Any]:
    """A line with the keys that are read here, from the keys that `columns` names."""
    renamed = dict(item)
    for key, name in (("image", columns.image), ("frames", columns.frames), ("video", columns.video)):
        if name is not None:
            renamed = {other: value for other, value in renamed.items() if other not in ("image", "frames", "video")}
            renamed[key] = value_of(item, name, where)
    if columns.references:
        renamed[CAPTION_KEYS[0]] = captions_of(item, columns, where)
    for key, name in ((ID_KEYS[0], columns.id), ("split", columns.split)):
        if name is not None:
            renamed[key] = text_of(item, name, where)
    return renamed


def _with_more(
    item: dict[str, Any], where: str, default_split: str, more: Sequence[str], keys: tuple[str, ...]
) -> CaptionRow:
    blind = not {"image", "frames", "video"} & set(item)
    row = _row({**item, **({"image": ""} if blind else {}), CAPTION_KEYS[0]: []}, where, default_split, keys)
    if blind and not row.image_id:
        raise ValueError(f"{where} has neither a picture nor an id; its keys are {', '.join(keys) or 'none'}")
    row.keys = keys
    row.more = {key: item[key] for key in more if item.get(key) is not None}
    return row


def _row(item: dict[str, Any], where: str, default_split: str, keys: tuple[str, ...]) -> CaptionRow:
    visual, is_video = _visual(item, where, keys)
    caption_key = next((key for key in CAPTION_KEYS if key in item), None)
    if caption_key is None:
        raise ValueError(
            f"{where} has no captions: give one of {', '.join(CAPTION_KEYS)} (an empty list where there are none), or "
            f"name the key that has them (--references-column); its keys are {', '.join(keys) or 'none'}"
        )
    split = item.get("split", default_split)
    if not isinstance(split, str):
        raise ValueError(f'{where}: "split" must be a text, not {shown(split)}')
    return CaptionRow(
        image_id=_image_id(item, visual, is_video, where),
        visual=visual,
        references=text_list(item[caption_key], where, caption_key),
        split=split_name(split),
        where=where,
        is_video=is_video,
        timestamps=timestamps_of(item, where) if is_video else None,
    )


def _visual(item: dict[str, Any], where: str, keys: tuple[str, ...]) -> tuple[str | list[str], bool]:
    """What a line shows, and whether it is a video."""
    if "frames" in item:
        frames = item["frames"]
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
            raise ValueError(f'{where}: "frames" must be a list of at least one path, not {shown(frames)}')
        return frames, False
    for key in ("image", "video"):
        if isinstance(item.get(key), str):
            return item[key], key == "video"
        if key in item:
            raise ValueError(f'{where}: "{key}" must be a path, not {shown(item[key])}')
    raise ValueError(
        f'{where} has neither "image" nor "frames" nor "video": name the key that has the picture (--image-column, '
        f"--frames-column, --video-column), and with --references-column that of the captions where it is not one of "
        f"{', '.join(CAPTION_KEYS)}; its keys are {', '.join(keys) or 'none'}"
    )


def _image_id(item: dict[str, Any], visual: str | list[str], is_video: bool, where: str) -> str:
    for key in ID_KEYS[:2] if is_video else ID_KEYS:
        if key in item:
            if isinstance(item[key], bool) or not isinstance(item[key], str | int) or item[key] == "":
                raise ValueError(f'{where}: "{key}" must be a text or a whole number, not {shown(item[key])}')
            return str(item[key])
    if isinstance(visual, str):
        return os.path.splitext(os.path.basename(visual))[0]
    raise ValueError(f"{where} is a clip without a name: give one of {', '.join(ID_KEYS)}")
