"""A row of results for each picture: shared out over processes, gone on with after a kill, joined at the end."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlcap.console import progress
from rlcap.data.images import BadImageCounter
from rlcap.data.parts import Parts, refuse_other

Row = dict[str, Any]  # "image_id", and what was made, or "failed": why nothing was
Make = Callable[[list[list[int]]], Iterator[list[Row]]]  # batches of row numbers -> the rows of each, in order


def share_rows(
    image_ids: Sequence[str],
    make: Make,
    output: Path,
    head: Mapping[str, Any],
    write: Callable[[Path, list[Row]], None],
    *,
    finished: Callable[[], tuple[Mapping[str, Any], list[Row]] | None],
    rank: int,
    world: int,
    batch_size: int,
    max_failed: float,
    doing: str,
    unit: str = "picture",
    overwrite: bool = False,
) -> list[Row] | None:
    """Makes rank `rank`'s share of the rows; the rank that finds all made writes `output` and returns all rows.

    Batches are the same whatever the number of processes, so that what is made does not depend on it; a killed run
    loses the batch it was at, and tries again what failed. Returns None where other ranks are still at it.

    Args:
        head: what determines the rows, as JSON; parts of `output` that were made with another one are refused.
        write: writes what follows from the rows to a path that it is given.
        finished: gives the head and the rows of an `output` that is whole; this work done before is not done again.
        max_failed: share of all rows that may fail.
        overwrite: replace an `output` that is anything else.

    Raises ValueError for parts with another head, for such an output unless it is to be replaced, and where more rows
    fail than may.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, not {rank}")
    if batch_size < 1:
        raise ValueError(f"batch size is {batch_size}; give at least 1")
    parts = Parts(output, head)
    begun, done = parts.begun(), _rows(parts)
    found = finished()  # looked for after the parts: they go when it is there
    if found is not None and found[0] == head:
        return found[1]
    if not (begun or overwrite):
        refuse_other(output, found and found[0], head)
    batches = [
        list(range(start, min(start + batch_size, len(image_ids)))) for start in range(0, len(image_ids), batch_size)
    ]
    mine = batches[rank::world]
    todo = [batch for batch in mine if any("failed" in done.get(image_ids[row], {"failed": ""}) for row in batch)]
    if todo:
        counter = BadImageCounter(len(image_ids), max_failed)
        total = sum(map(len, mine))
        bar = progress(
            total=total,
            initial=total - sum(map(len, todo)),
            desc=doing if world == 1 else f"{doing}, rank {rank} of {world}",
            unit=unit,
            disable=rank != 0,
        )
        with bar, parts.part(rank) as part:
            for rows in make(todo):
                part.append({"rows": rows})
                counter.extend(_failed(rows))
                bar.update(len(rows))
    done = _rows(parts)  # nothing where another rank has joined them and cleaned up
    if any(image_id not in done for image_id in image_ids):
        return None
    rows = [done[image_id] for image_id in image_ids]
    BadImageCounter(len(rows), max_failed).extend(_failed(rows), warn=False)  # those of all ranks and runs
    own = output.with_name(f"{output.name}.rank{rank}")  # ranks that end at the same time write the same
    write(own, rows)
    own.replace(output)
    parts.remove()
    return rows


def _rows(parts: Parts) -> dict[str, Row]:
    """The rows of all parts by image id; of a row that was tried again, what was made of it in the end."""
    rows: dict[str, Row] = {}
    with suppress(FileNotFoundError):  # another rank removes the parts just now
        for _, _, line in parts.records():
            for row in line["rows"]:
                if "failed" not in row or row["image_id"] not in rows:
                    rows[row["image_id"]] = row
        return rows
    return {}


def _failed(rows: Iterable[Row]) -> list[tuple[str, str]]:
    return [(row["image_id"], row["failed"]) for row in rows if "failed" in row]
