"""The file that lists generated captions or pictures: a line of JSON that says how they were made, then one a row."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.console import progress
from rlcap.data.images import BadImageCounter
from rlcap.data.parts import Parts
from rlcap.tracking.run_directory import write_text

CAPTIONS = "rlcap generated captions 1"
PICTURES = "rlcap generated pictures 1"
PICTURES_FILE = "pictures.jsonl"  # in the folder of generated pictures

Row = dict[str, Any]  # "image_id", and what was made, or "failed": why nothing was


def write_manifest(
    image_ids: Sequence[str],
    make: Callable[[list[list[int]]], Iterator[list[Row]]],
    output: Path,
    head: Mapping[str, Any],
    *,
    rank: int,
    world: int,
    batch_size: int,
    max_failed: float,
    unit: str,
) -> list[Row] | None:
    """Makes rank `rank`'s share of rows; the rank that finds all made writes `output` and returns its rows.

    make: batches of row numbers to the rows of each batch, in order. Batches are the same whatever the number of
    processes, so that what is made does not depend on it; a killed run loses the batch it was at, and a finished one
    returns at once. Returns None where other ranks are still at it. Raises ValueError for an output or parts that were
    made otherwise than `head` says, and where more than the share `max_failed` of all rows fail.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, not {rank}")
    if batch_size < 1:
        raise ValueError(f"batch size is {batch_size}; give at least 1")
    head = json.loads(json.dumps(head))
    parts = Parts(output, head)
    try:
        done = _rows(parts)
    except FileNotFoundError:  # another rank joins them just now
        done = {}
    if output.is_file():
        found, rows = read_manifest(output)
        if found == head:
            return rows
        raise ValueError(f"{output} was made otherwise than this command would; remove it, or choose another output")
    batches = [
        list(range(start, min(start + batch_size, len(image_ids)))) for start in range(0, len(image_ids), batch_size)
    ]
    mine = batches[rank::world]
    todo = [batch for batch in mine if any(image_ids[row] not in done for row in batch)]
    if todo:
        counter = BadImageCounter(len(image_ids), max_failed)
        counter.extend(_failed(done.values()), warn=False)
        total = sum(map(len, mine))
        bar = progress(
            total=total,
            initial=total - sum(map(len, todo)),
            desc="generating" if world == 1 else f"generating, rank {rank} of {world}",
            unit=unit,
            disable=rank != 0,
        )
        with bar, parts.part(rank) as part:
            for rows in make(todo):
                part.append({"rows": rows})
                counter.extend(_failed(rows))
                bar.update(len(rows))
    try:
        done = _rows(parts)
    except FileNotFoundError:  # another rank has joined them and cleaned up
        return None
    if any(image_id not in done for image_id in image_ids):
        return None
    rows = [done[image_id] for image_id in image_ids]
    own = output.with_name(f"{output.name}.rank{rank}")  # ranks that end at the same time write the same
    write_text(own, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *rows)))
    own.replace(output)
    parts.remove()
    return rows


def read_manifest(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """How things were made ({} where a file does not say), and the rows. Raises ValueError naming a line of neither."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of generated positives (rlcap positives writes one)")
    head: dict[str, Any] = {}
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON ({error})") from error
        if number == 1 and isinstance(value, dict) and "format" in value:
            head = value
        elif isinstance(value, dict) and isinstance(value.get("image_id"), str):
            rows.append(value)
        else:
            raise ValueError(f"{path}, line {number} has no image_id")
    return head, rows


def generated_captions(path: Path) -> dict[str, list[str]]:
    """image_id -> captions, of a file of `rlcap positives captions`, or of lines {"image_id", "captions"} alone."""
    captions: dict[str, list[str]] = {}
    for row in read_manifest(path)[1]:
        if "failed" in row:
            continue
        own = row.get("captions")
        if not isinstance(own, list) or not own or not all(isinstance(text, str) and text.strip() for text in own):
            raise ValueError(f"{path}: {row['image_id']!r} has as captions {own!r:.80}; expected a list of texts")
        captions[row["image_id"]] = own
    return captions


def generated_pictures(folder: Path) -> dict[str, str]:
    """image_id -> file, of a folder of `rlcap positives pictures`."""
    files: dict[str, str] = {}
    for row in read_manifest(folder / PICTURES_FILE)[1]:
        if "failed" not in row:
            if not isinstance(row.get("file"), str):
                raise ValueError(f"{folder / PICTURES_FILE}: {row['image_id']!r} has no file")
            files[row["image_id"]] = str(folder / row["file"])
    return files


def _rows(parts: Parts) -> dict[str, Row]:
    return {row["image_id"]: row for line in parts.lines() for row in line["rows"]}


def _failed(rows: Any) -> list[tuple[str, str]]:
    return [(row["image_id"], row["failed"]) for row in rows if "failed" in row]
