"""A row of results for each picture: shared out over processes, gone on with after a kill, joined at the end."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.console import progress
from rlcap.data.images import BadImageCounter
from rlcap.data.parts import Parts
from rlcap.tracking.run_directory import write_text

Row = dict[str, Any]  # "image_id", and what was made, or "failed": why nothing was
Make = Callable[[list[list[int]]], Iterator[list[Row]]]  # batches of row numbers -> the rows of each, in order


def share_rows(
    image_ids: Sequence[str],
    make: Make,
    output: Path,
    head: Mapping[str, Any],
    write: Callable[[list[Row]], str],
    *,
    finished: Callable[[], list[Row] | None] = lambda: None,
    rank: int,
    world: int,
    batch_size: int,
    max_failed: float,
    doing: str,
    unit: str = "picture",
) -> list[Row] | None:
    """Makes rank `rank`'s share of the rows; the rank that finds all made writes `output` and returns all rows.

    Batches are the same whatever the number of processes, so that what is made does not depend on it; a killed run
    loses the batch it was at. Returns None where other ranks are still at it.

    Args:
        head: what determines the rows, as JSON; parts of `output` that were made with another one are refused.
        write: the text of `output`.
        finished: gives the rows where this work was done before, which ends it.
        max_failed: share of all rows that may fail.

    Raises ValueError for parts with another head, and where more rows fail than may.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, not {rank}")
    if batch_size < 1:
        raise ValueError(f"batch size is {batch_size}; give at least 1")
    parts = Parts(output, head)
    try:
        done = _rows(parts)
    except FileNotFoundError:  # another rank joins them just now
        done = {}
    found = finished()  # looked for after the parts: they go when it is there
    if found is not None:
        return found
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
            desc=doing if world == 1 else f"{doing}, rank {rank} of {world}",
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
    write_text(own, write(rows))
    own.replace(output)
    parts.remove()
    return rows


def _rows(parts: Parts) -> dict[str, Row]:
    return {row["image_id"]: row for _, _, line in parts.records() for row in line["rows"]}


def _failed(rows: Iterable[Row]) -> list[tuple[str, str]]:
    return [(row["image_id"], row["failed"]) for row in rows if "failed" in row]
