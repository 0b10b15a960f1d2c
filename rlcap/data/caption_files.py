"""Caption files: Karpathy JSON, COCO captions JSON and JSON lines, told apart by their content."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlcap.data.coco import read_coco
from rlcap.data.columns import Columns
from rlcap.data.jsonl import read_jsonl
from rlcap.data.karpathy import read_karpathy
from rlcap.data.rows import CaptionRow, shown


def read_file(path: Path, format: str, split: str | None, columns: Columns) -> Iterator[CaptionRow]:
    """Yield the rows of a captions file; `format` "auto" looks at its content.

    Raises ValueError naming the file and the entry that is wrong, and where `columns` are named for JSON of a layout
    that has names of its own.
    """
    try:
        document = None
        if format == "auto":
            format, document = _detect(path)
        if format == "jsonl":
            yield from read_jsonl(path, columns=columns if columns.given else None)
            return
        if columns.given:
            raise ValueError(
                f"{path}: columns are named for JSON lines, tar shards and data sets; this is {format} JSON"
            )
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
