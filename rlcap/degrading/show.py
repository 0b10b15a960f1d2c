"""Chains on the terminal: the first caption, and under it every step with what it changed marked."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.text import Text

from rlcap.data.edits import Change, Edit, edit_between
from rlcap.data.rows import shown as quoted

_MARK, _WAS, _KIND, _ID = "bold magenta", "dim strike", "cyan", "bold"
WIDTH = 10  # of the column that says the kind


def chosen(path: Path, number: int, image_id: str | None, kind: str | None, seed: int) -> list[dict[str, Any]]:
    """`number` chains of a file at random, in its order; only those of a picture, or with a kind of edit, if given.

    Raises ValueError naming a line that is no chain, and where there is none to show.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of chains")
    rng, kept, seen = random.Random(seed), list[tuple[int, dict[str, Any]]](), 0
    for place, row in enumerate(_rows(path)):
        kinds = [edit.get("kind") for edit in row.get("edits") or ()]
        if (image_id is not None and str(row.get("image_id")) != image_id) or (kind is not None and kind not in kinds):
            continue
        seen += 1  # a reservoir: the file is read once, and never held
        if len(kept) < number:
            kept.append((place, row))
        elif (at := rng.randrange(seen)) < number:
            kept[at] = (place, row)
    if not kept:
        raise ValueError(f"{path} has no such chains to show")
    return [row for _, row in sorted(kept, key=lambda pair: pair[0])]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}: line {number} is not JSON ({error.msg})") from error
            if isinstance(row, dict) and isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
                row = {**row, "captions": [row["chosen"], row["rejected"]]}
            captions = row.get("captions") if isinstance(row, dict) else None
            if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
                raise ValueError(f'{path}: line {number} has no "captions", a list of texts: {quoted(row)}')
            yield row


def shown(row: dict[str, Any], marks: bool = False) -> Text:
    """A chain as text: new words in colour or, with `marks`, in [brackets]; what stood there behind it."""
    captions, edits = row["captions"], row.get("edits") or [{}] * (len(row["captions"]) - 1)
    text = Text(f"{row.get('source') or row.get('image_id') or ''}\n", style=_ID)
    text.append(f"{'':{WIDTH}} {captions[0]}\n", style="default")
    for first, second, edit in zip(captions, captions[1:], edits, strict=False):
        text.append(f"{edit.get('kind') or '':{WIDTH}} ", style=_KIND)
        end = 0
        for change in _changes(edit, first, second):
            text.append(first[end : change.at], style="default")
            text.append(f"[{change.after}]" if marks else change.after, style=_MARK)
            text.append(" ")
            text.append(f"(was: {change.before})" if marks else change.before, style=_WAS)
            end = change.end
        text.append(first[end:], style="default")
        text.rstrip()
        text.append("\n")
    return text


def _changes(edit: dict[str, Any], first: str, second: str) -> tuple[Change, ...]:
    """The changes that a file records, where they lead from the one caption to the other; else those of their words."""
    try:
        recorded = Edit("", tuple(Change(**change) for change in edit["changes"]))
        if recorded.applied(first) == second:
            return recorded.changes
    except (KeyError, TypeError, ValueError):
        pass  # chains made elsewhere, or before changes were recorded
    return edit_between(first, second, "").changes if first != second else ()
