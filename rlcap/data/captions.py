"""`load_captions`: one door for Karpathy JSON, COCO JSON and JSON lines."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from rlcap.data.coco import read_coco
from rlcap.data.jsonl import read_jsonl
from rlcap.data.karpathy import read_karpathy
from rlcap.data.rows import CaptionRow, shown

FORMATS = ("auto", "karpathy", "coco", "jsonl")
SUBFOLDERS = ("", "images", "frames")  # where pictures are looked for beside a captions file
LOOKED_AT = 5  # files checked to see whether a folder is the right one
NAMED = 5  # items that an error message lists


def load_captions(
    source: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    format: str = "auto",
    check_images: bool = True,
    drop_empty: bool = False,
) -> Dataset:
    """Read captions into rows `image_id`, `image` (a path) or `frames` (paths), `references`, `split`; no picture is
    opened.

    Args:
        source: a Karpathy JSON, a COCO captions JSON or a JSON-lines file; `format` says which where "auto", which
            looks at the content, should not decide.
        images: the folder that relative paths in `source` are under. Default: the folder of `source`, or its `images/`
            or `frames/`: the first in which one of the first five files lies.
        split: the rows to keep; None keeps all. COCO files do not name their split: there it is the name given to the
            rows (default "train").
        check_images: False reads captions whose pictures are elsewhere (to score texts, to build a corpus).
        drop_empty: leave out captions without a letter in them instead of refusing the file.

    Lines of JSON that repeat an `image_id` with the same picture add their captions to it. Raises ValueError naming the
    file, the line or key and what to do: a missing file or folder, unreadable JSON, an unknown layout, two pictures
    under one id, pictures mixed with clips, an empty caption, a split without rows.
    """
    path = Path(source)
    if format not in FORMATS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, not "{format}"')
    if path.is_dir():
        found = sorted(file.name for file in path.iterdir() if file.suffix in (".json", ".jsonl"))
        raise ValueError(
            f"{path} is a folder: name the captions file in it ({', '.join(found[:NAMED]) or 'none there'})"
        )
    if not path.is_file():
        raise ValueError(f"{path}: there is no such captions file")
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder of pictures (images=…, for the paths in {path})")

    rows = _merged(_read(path, format, split))
    if not rows:
        raise ValueError(f"{path} has no rows")
    rows = _of_split(rows, split, path)
    _check_captions(rows, drop_empty, path)
    return _dataset(rows, _picture_folder(rows, folder, path, check_images), path)


def require_references(dataset: Dataset) -> None:
    """Raise ValueError naming the pictures that have no references, which training on captions needs."""
    column = dataset.select_columns(["image_id", "references"])
    without = [row["image_id"] for row in column if not row["references"]]
    if without:
        raise ValueError(
            f"{len(without)} of {len(dataset)} pictures have no references: {_listed(without)}; "
            "add captions for them or leave them out"
        )


def _read(path: Path, format: str, split: str | None) -> Iterator[CaptionRow]:
    try:
        document = None
        if format == "auto":
            format, document = _detect(path)
        if format == "jsonl":
            yield from read_jsonl(path)
            return
        document = _document(path) if document is None else document
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error})") from error
    if not isinstance(document, dict) or _layout(document) != format:
        raise ValueError(f'{path} is not in the layout "{format}": {_described(document)}')
    yield from (
        read_karpathy(document, str(path)) if format == "karpathy" else read_coco(document, str(path), split or "train")
    )


def _detect(path: Path) -> tuple[str, Any]:
    """Return the format of a file and, unless it is JSON lines, its parsed content."""
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
        more = any(line.strip() for line in file)
    if not first:
        raise ValueError(f"{path} is empty")
    try:
        document = json.loads(first)
    except json.JSONDecodeError as error:
        try:  # a document whose first line breaks off: indented JSON
            document = _document(path)
        except ValueError as whole:
            raise ValueError(f"{whole}; nor JSON lines: line 1, column {error.colno}: {error.msg}") from error
    else:
        if more and isinstance(document, dict):
            return "jsonl", None
        if isinstance(document, dict) and "images" not in document and {"image", "frames", "video"} & set(document):
            return "jsonl", None
    layout = _layout(document)
    if layout is None:
        raise ValueError(
            f"{path} has an unknown layout: {_described(document)}. Known are Karpathy JSON (images with sentences), "
            "COCO captions JSON (images and annotations) and JSON lines (image or frames, and references, on each line)"
        )
    return layout, document


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}") from error


def _layout(document: object) -> str | None:
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        return None
    if isinstance(document.get("annotations"), list):
        return "coco"
    entries = document["images"]
    return "karpathy" if entries and isinstance(entries[0], dict) and "sentences" in entries[0] else None


def _described(document: object) -> str:
    if isinstance(document, dict):
        return f"an object with the keys {shown(list(document)[:10], 120)}"
    if isinstance(document, list):
        return f"a list of {len(document)} items" + (f", the first {shown(document[0])}" if document else "")
    return shown(document)


def _merged(rows: Iterable[CaptionRow]) -> list[CaptionRow]:
    merged: dict[str, CaptionRow] = {}
    for row in rows:
        first = merged.setdefault(row.image_id, row)
        if first is row:
            continue
        if first.visual != row.visual:
            raise ValueError(
                f'{row.where}: image_id "{row.image_id}" is {shown(row.visual)} here and {shown(first.visual)} at '
                f"{first.where}; give every picture its own image_id"
            )
        if first.split != row.split:
            raise ValueError(
                f'{row.where}: "{row.image_id}" is in the split "{row.split}" here and "{first.split}" at {first.where}'
            )
        first.references = first.references + row.references
    return list(merged.values())


def _of_split(rows: list[CaptionRow], split: str | None, path: Path) -> list[CaptionRow]:
    if split is None:
        return rows
    kept = [row for row in rows if row.split == split]
    if not kept:
        there = ", ".join(f'"{name}" ({count})' for name, count in Counter(row.split for row in rows).items())
        raise ValueError(f'{path} has no rows in the split "{split}"; there are {there}')
    return kept


def _check_captions(rows: list[CaptionRow], drop_empty: bool, path: Path) -> None:
    empty = [row.image_id for row in rows if not all(caption.strip() for caption in row.references)]
    if empty and not drop_empty:
        raise ValueError(
            f"{path}: {len(empty)} pictures have an empty caption: {_listed(empty)}; "
            "correct them, or leave such captions out (drop_empty_captions: true, or drop_empty=True)"
        )
    for row in rows:
        row.references = [caption.strip() for caption in row.references if caption.strip()]


def _picture_folder(rows: list[CaptionRow], folder: Path | None, path: Path, check: bool) -> Path:
    """The folder under which the first files lie.

    One of the first five is enough: single files that are missing are named, counted and skipped when they are opened.
    """
    candidates = [path.parent / name for name in SUBFOLDERS] if folder is None else [folder]
    if not check:
        return candidates[0]
    files = [row.pictures[0] for row in rows[:LOOKED_AT]]
    for candidate in candidates:
        if any((candidate / file).is_file() for file in files):
            return candidate
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise ValueError(
        f"none of the first pictures of {path} ({_listed(files)}) lies in {looked}: "
        "name their folder (images=…), or read the captions alone (check_images=False)"
    )


def _dataset(rows: list[CaptionRow], folder: Path, path: Path) -> Dataset:
    clips = [row for row in rows if not isinstance(row.visual, str)]
    if clips and len(clips) < len(rows):
        other = next(row for row in rows if isinstance(row.visual, str))
        raise ValueError(
            f"{path} mixes clips ({clips[0].where}) with pictures ({other.where}); a picture is a clip of one frame: "
            'give "frames" with one path'
        )
    text = Value("string")
    visual: dict[str, Any]
    if clips:
        visual = {"frames": [[str(folder / frame) for frame in row.pictures] for row in rows]}
    else:
        visual = {"image": [str(folder / row.pictures[0]) for row in rows]}
    columns = {
        "image_id": [row.image_id for row in rows],
        **visual,
        "references": [row.references for row in rows],
        "split": [row.split for row in rows],
    }
    features = {"image_id": text, **({"frames": List(text)} if clips else {"image": text})}
    return Dataset.from_dict(columns, features=Features({**features, "references": List(text), "split": text}))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
