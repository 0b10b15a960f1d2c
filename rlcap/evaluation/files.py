"""Predictions, references and training captions from files, with ids and texts checked."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rlcap.data.jsonl import CAPTION_KEYS, ID_KEYS
from rlcap.data.rows import shown, text_list
from rlcap.data.source_kind import kind_of

LAYOUTS = 'id -> caption, a COCO results list [{"image_id", "caption"}], or such objects as JSON lines'


def read_predictions(path: Path) -> dict[str, str]:
    """One caption a picture, id -> caption, from a JSON object (text or list of one), a COCO results list, JSON lines.

    Ids become texts; captions stay as they are, empty ones too. Raises ValueError naming the file and the id or line:
    a missing or unreadable file, another layout, an id given twice, a caption that is no text, several captions.
    """
    predictions: dict[str, str] = {}
    for image_id, captions, where in _entries(path):
        if len(captions) != 1:
            raise ValueError(f"{where} has {len(captions)} captions; one a picture can be scored")
        if image_id in predictions:
            raise ValueError(f'{where}: "{image_id}" has a caption already; give one caption a picture')
        predictions[image_id] = captions[0]
    if not predictions:
        raise ValueError(f"{path} has no captions")
    return predictions


def read_captions(path: Path) -> list[tuple[str, str]]:
    """All captions of a file as (id, caption), in order; the layouts of `read_predictions`, and lists of captions too.

    Raises ValueError naming the file and the id or line: a missing or unreadable file, another layout, no caption.
    """
    captions = [(image_id, caption) for image_id, own, _ in _entries(path) for caption in own]
    if not captions:
        raise ValueError(f"{path} has no captions")
    return captions


def read_references(source: str | os.PathLike[str], split: str | None = None, **reading: Any) -> dict[str, list[str]]:
    """References, id -> captions, from a JSON object, JSON lines, or anything that `load_captions` reads.

    `split` keeps the rows of one split, in sources that have splits; `reading` goes to `load_captions` (format,
    columns). The pictures need not be there. JSON lines that repeat an id add to its references; in sources with
    pictures, captions without a letter are left out. Raises ValueError naming the source and what is wrong with it.
    """
    references: dict[str, list[str]] = {}
    if _has_pictures(source, **reading):
        from rlcap.data.captions import load_captions

        dataset = load_captions(source, split=split, check_images=False, drop_empty=True, **reading)
        for row in dataset.select_columns(["image_id", "references"]):
            references[row["image_id"]] = row["references"]
    else:
        if split is not None:
            raise ValueError(f"{source} has no splits, but the split {split!r} is asked for; leave it out")
        for image_id, captions, _ in _entries(Path(source)):
            references.setdefault(image_id, []).extend(captions)
    return references


def read_training_captions(source: str | os.PathLike[str], split: str = "train", **reading: Any) -> list[str]:
    """The captions of a training set: one a line of a .txt file, or the references of `split` of any references source.

    A file without splits is taken whole. Raises ValueError as `read_references` does.
    """
    if Path(source).suffix == ".txt":
        captions = [line.strip() for line in _text(Path(source)).split("\n") if line.strip()]
    else:
        references = read_references(source, split if _has_pictures(source, **reading) else None, **reading)
        captions = [caption for of_picture in references.values() for caption in of_picture]
    if not captions:
        raise ValueError(f"{source} has no captions")
    return captions


def _has_pictures(source: str | os.PathLike[str], format: str = "auto", **columns: Any) -> bool:
    """Whether `load_captions` reads it: rows with pictures, not id -> texts."""
    if format == "auto" and os.path.isfile(source) and not str(source).endswith((".tar", ".parquet")):
        return _is_caption_file(Path(source))
    return format != "auto" or kind_of(os.fspath(source), format) != "file"


def _is_caption_file(path: Path) -> bool:
    """Whether `load_captions` reads it: rows with pictures (Karpathy, COCO, JSON lines), not id -> texts."""
    text = _text(path)
    if _is_lines(path, text):
        first = next((line for line in text.split("\n") if line.strip()), "")
        item = _parsed(first, f"{path}: line 1")
        return isinstance(item, dict) and not {"image", "frames", "video"}.isdisjoint(item)
    document = _parsed(text, str(path))
    return isinstance(document, dict) and isinstance(document.get("images"), list)


def _entries(path: Path) -> Iterator[tuple[str, list[str], str]]:
    """(id, captions, where it stands) of a JSON object, a list of objects or JSON lines."""
    text = _text(path)
    if _is_lines(path, text):
        numbered = enumerate(text.split("\n"), start=1)
        yield from (
            _entry(_parsed(line, f"{path}: line {n}"), f"{path}: line {n}") for n, line in numbered if line.strip()
        )
        return
    document = _parsed(text, str(path))
    if isinstance(document, list):
        yield from (_entry(item, f"{path}: item {number}") for number, item in enumerate(document))
    elif isinstance(document, dict) and "images" not in document:
        for key, value in document.items():
            yield key, text_list(value, str(path), key), f'{path}: "{key}"'
    else:
        raise ValueError(f"{path} must be {LAYOUTS}, not {shown(document)}")


def _entry(item: Any, where: str) -> tuple[str, list[str], str]:
    if not isinstance(item, dict):
        raise ValueError(f"{where} must be an object with an id and a caption, not {shown(item)}")
    id_key = next((key for key in ID_KEYS if key in item), None)
    caption_key = next((key for key in CAPTION_KEYS if key in item), None)
    if id_key is None or caption_key is None:
        raise ValueError(f"{where} needs one of {', '.join(ID_KEYS)} and one of {', '.join(CAPTION_KEYS)}")
    image_id = item[id_key]
    if isinstance(image_id, bool) or not isinstance(image_id, str | int):
        raise ValueError(f'{where}: "{id_key}" must be a text or a whole number, not {shown(image_id)}')
    return str(image_id), text_list(item[caption_key], where, caption_key), where


def _is_lines(path: Path, text: str) -> bool:
    if path.suffix == ".jsonl":
        return True
    first, _, rest = text.strip().partition("\n")
    return first.startswith("{") and first.rstrip().endswith("}") and bool(rest.strip())


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error})") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, where))
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}") from error


def _object(pairs: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """JSON leaves open what a key given twice means, and Python keeps the last: here it is an error."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"{where}: the key {shown(key)} is given twice in one object")
        result[key] = value
    return result
