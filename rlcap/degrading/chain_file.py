"""Chains of many captions in one file: shared out over processes, gone on with after a kill, joined at the end."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from rlcap.console import progress
from rlcap.data.parts import Parts, refuse_other
from rlcap.degrading.chain import Chain, Start
from rlcap.disk import writing
from rlcap.tracking.run_directory import write_json

FORMAT = "rlcap chains 2"
SUMMARY = ".summary.json"


class Degrader(Protocol):
    """Makes chains, a unit of `batch` captions at a time; what a unit becomes depends on nothing but the unit."""

    batch: int

    def chains(self, units: Iterable[list[Start]]) -> Iterator[list[tuple[Start, Chain]]]:
        """Yields units as they are finished, in whatever order."""


def write_chains(
    make: Callable[[], Degrader],
    starts: Callable[[], Iterable[Start]],
    output: Path,
    header: Mapping[str, Any],
    *,
    batch: int,
    row: Callable[[Start], Mapping[str, Any]],
    total: int,
    shortest: int = 2,
    rank: int = 0,
    world: int = 1,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Makes rank `rank`'s share of the chains; the rank that finds all done writes `output` and returns the summary.

    Each rank appends to a file of its own in the folder `output`.parts, which goes once `output` is there. Units that
    are in it already are not done again, however many processes wrote them. `header` is what determines the chains: it
    is compared with that of the parts, and of the summary of an `output` that is there already.

    Args:
        make: gives the degrader; not called where nothing is left to do.
        starts: gives the captions, always in the same order; `total` of them, `batch` of them a unit.
        row: the keys of a chain's line beside `captions` and `edits`.
        shortest: chains with fewer captions are dropped and counted.
        overwrite: replace an `output` with another header, or none.

    The summary, also in `output`.summary.json, has `header`, `starts`, `chains`, `lengths`, `kinds`, `failures`.
    Returns None where other ranks are still at it. Raises ValueError for parts with another header, and for an output
    with another one unless it is to be replaced.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, not {rank}")
    head = json.loads(json.dumps({"format": FORMAT, **header}, default=str))
    parts = Parts(output, head)
    begun = parts.begun()
    try:
        done = {number for _, _, record in parts.records() for number in record["units"]}
    except FileNotFoundError:  # another rank joins them just now
        done = set()
    finished = _finished(output)
    if finished is not None and finished.get("header") == head:
        return finished
    if not (begun or overwrite):
        refuse_other(output, finished and finished.get("header"), head)
    units = -(-total // batch)
    mine = range(rank, units, world)
    todo = [number for number in mine if number not in done]
    if todo:
        bar = progress(
            total=_captions(mine, batch, total),
            initial=_captions(mine, batch, total) - _captions(todo, batch, total),
            desc="chains" if world == 1 else f"chains, rank {rank} of {world}",
            unit="caption",
            disable=rank != 0,
        )
        degrader = make()
        wanted = _units(starts(), batch, set(todo))
        with bar, parts.part(rank) as part:
            for made in degrader.chains(wanted):
                part.append(_record(made, batch, row, shortest))
                bar.update(len(made))
    return _joined(output, parts, units, total, rank)


def _captions(units: Iterable[int], batch: int, total: int) -> int:
    return sum(min(batch, total - number * batch) for number in units)


def _units(starts: Iterable[Start], batch: int, wanted: set[int]) -> Iterator[list[Start]]:
    for number, unit in groupby(starts, key=lambda start: start.row // batch):
        if number in wanted:
            yield list(unit)


def _record(
    made: list[tuple[Start, Chain]], batch: int, row: Callable[[Start], Mapping[str, Any]], shortest: int
) -> dict[str, Any]:
    lines, failures = {}, Counter[str]()
    for start, chain in made:
        failures.update(chain.failures)
        if len(chain.captions) < max(2, shortest):
            failures[f"dropped: fewer than {max(2, shortest)} captions"] += 1
        else:
            lines[str(start.row)] = {**row(start), **chain.as_row()}
    return {"units": [made[0][0].row // batch], "chains": lines, "failures": failures}


def _joined(output: Path, parts: Parts, units: int, total: int, rank: int) -> dict[str, Any] | None:
    """The whole result where all parts are there, written; ranks that find this at the same time write the same."""
    try:
        places = {number: (path, at) for path, at, record in parts.records() for number in record["units"]}
        if len(places) < units:
            return None
        own = output.with_name(f"{output.name}.rank{rank}")
        lengths, kinds, failures = Counter[int](), Counter[str](), Counter[str]()
        with writing(output.name, output.parent), own.open("w", encoding="utf-8") as file:
            for record in _in_order(places):
                failures.update(record["failures"])
                for number in sorted(record["chains"], key=int):
                    chain = record["chains"][number]
                    lengths[len(chain["captions"])] += 1
                    kinds.update(edit["kind"] for edit in chain["edits"])
                    file.write(json.dumps(chain, ensure_ascii=False) + "\n")
    except FileNotFoundError:  # another rank has joined them and cleaned up
        return None
    summary = {
        "header": dict(parts.head),
        "starts": total,
        "chains": sum(lengths.values()),
        "lengths": {str(length): lengths[length] for length in sorted(lengths)},
        "kinds": dict(kinds.most_common()),
        "failures": dict(failures.most_common()),
    }
    own.replace(output)
    write_json(output.with_name(output.name + SUMMARY), summary)
    parts.remove()
    return summary


def _in_order(places: Mapping[int, tuple[Path, int]]) -> Iterator[Any]:
    """The records of the units, one at a time in memory."""
    files = {path: path.open("rb") for path in {path for path, _ in places.values()}}
    try:
        for number in sorted(places):
            path, at = places[number]
            files[path].seek(at)
            yield json.loads(files[path].readline())
    finally:
        for file in files.values():
            file.close()


def _finished(output: Path) -> dict[str, Any] | None:
    """The summary of an output that is there."""
    path = output.with_name(output.name + SUMMARY)
    if not output.is_file() or not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return summary if isinstance(summary, dict) else None
