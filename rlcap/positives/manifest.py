"""The file that lists generated captions or pictures: a line of JSON that says how they were made, then one a row."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.data.shared_rows import Make, Row, share_rows
from rlcap.tracking.run_directory import write_text

CAPTIONS = "rlcap generated captions 1"
PICTURES = "rlcap generated pictures 1"
PICTURES_FILE = "pictures.jsonl"  # in the folder of generated pictures


def write_manifest(
    image_ids: Sequence[str],
    make: Make,
    output: Path,
    head: Mapping[str, Any],
    *,
    rank: int,
    world: int,
    batch_size: int,
    max_failed: float,
    unit: str,
    overwrite: bool = False,
) -> list[Row] | None:
    """Makes rank `rank`'s share of rows; the rank that finds all made writes `output` and returns its rows.

    A finished run returns at once; a killed one loses the batch it was at (rlcap.data.shared_rows). Returns None where
    other ranks are still at it. Raises ValueError for an output (unless it is to be replaced) or parts that were made
    otherwise than `head` says, and where more than the share `max_failed` of all rows fail.
    """
    head = json.loads(json.dumps(head))

    def finished() -> tuple[dict[str, Any], list[Row]] | None:
        try:
            found = read_manifest(output)
        except ValueError:
            return None
        return found if found[0] else None

    def write(path: Path, rows: list[Row]) -> None:
        write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *rows)))

    return share_rows(
        image_ids,
        make,
        output,
        head,
        write,
        finished=finished,
        rank=rank,
        world=world,
        batch_size=batch_size,
        max_failed=max_failed,
        doing="generating",
        unit=unit,
        overwrite=overwrite,
    )


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
