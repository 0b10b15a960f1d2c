"""Scores of many captions in one file: shared out over processes, gone on with after a kill, joined at the end."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards import Reward
from rlcap.console import progress
from rlcap.data.images import BadImageCounter
from rlcap.data.parts import Parts, refuse_other
from rlcap.evaluation.scoring import Item, in_batches, score_items
from rlcap.tracking.run_directory import write_json

FORMAT = "rlcap scores 1"


def write_scores(
    reward: Reward,
    items: Sequence[Item],
    output: Path,
    header: Mapping[str, Any],
    *,
    rank: int = 0,
    world: int = 1,
    batch_size: int = 64,
    workers: int = 2,
    max_bad_images: float = 0.01,
    timeout: float | None = None,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Scores rank `rank`'s share of the items; the rank that finds all done writes `output` and returns what is in it.

    Each rank appends to a file of its own in the folder `output`.parts, which goes once `output` is there. What is in
    it already is not done again, however many processes wrote it: a killed run loses a batch. Batches are the same
    whatever the number of processes, and so are the scores. `header` is what determines them: it is compared with that
    of the parts, and of an `output` that is there already. Pictures that cannot be decoded leave their captions
    unscored (null) and are listed. `timeout`: seconds that a batch may take. `overwrite`: replace an `output` with
    another header, or none.

    Returns None where other ranks are still at it. Raises ValueError for parts with another header, for an output with
    another one unless it is to be replaced, for more than the share `max_bad_images` of all pictures that cannot be
    decoded, and as `rewards.score` does.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, not {rank}")
    head = json.loads(json.dumps({"format": FORMAT, **header}, default=str))
    parts = Parts(output, head)
    begun = parts.begun()
    try:
        done, bad = _done(parts)
    except FileNotFoundError:  # another rank joins them just now
        done, bad = {}, {}
    finished = _finished(output)  # looked for after the parts: they go when it is there
    if finished is not None and finished.get("header") == head:
        return finished
    if not (begun or overwrite):
        refuse_other(output, finished and finished.get("header"), head)
    share = in_batches(items, batch_size)[rank::world]
    todo = [batch for batch in share if any(position not in done for position in batch)]
    if todo:
        counter = _counter(items, max_bad_images)
        counter.extend(bad.items(), warn=False)
        bar = progress(
            total=sum(map(len, share)),
            initial=sum(map(len, share)) - sum(map(len, todo)),
            desc=reward.__name__ if world == 1 else f"{reward.__name__}, rank {rank} of {world}",
            unit="caption",
            disable=rank != 0,
        )
        with bar, parts.part(rank) as part:
            for scored in score_items(reward, items, todo, on_bad=counter.extend, workers=workers, timeout=timeout):
                values = list(zip(scored.positions, scored.values, strict=True))
                part.append({"values": values, "bad": list(scored.bad)})
                bar.update(len(scored.positions))
    return _joined(output, parts, items, rank, max_bad_images)


def _joined(
    output: Path, parts: Parts, items: Sequence[Item], rank: int, max_bad_images: float
) -> dict[str, Any] | None:
    """The whole result where all parts are there, written; ranks that find this at the same time write the same."""
    try:
        done, bad = _done(parts)
    except FileNotFoundError:  # another rank has joined them and cleaned up
        return None
    if len(done) < len(items):
        return None
    _counter(items, max_bad_images).extend(bad.items(), warn=False)  # those of all ranks and runs
    values = [done[position] for position in range(len(items))]
    known = [value for value in values if value is not None]
    result = {
        "header": dict(parts.head),
        "captions": len(items),
        "scored": len(known),
        "mean": math.fsum(known) / len(known) if known else None,
        "bad_images": bad,
        "scores": [
            {"image_id": item.image_id, "caption": item.caption, "score": value}
            for item, value in zip(items, values, strict=True)
        ],
    }
    own = output.with_name(f"{output.name}.rank{rank}")
    write_json(own, result)
    own.replace(output)
    parts.remove()
    return result


def _counter(items: Sequence[Item], max_bad_images: float) -> BadImageCounter:
    return BadImageCounter(len({item.image_id for item in items}), max_bad_images)


def _finished(output: Path) -> dict[str, Any] | None:
    """The result that is there already."""
    if not output.is_file():
        return None
    try:
        result = json.loads(output.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def _done(parts: Parts) -> tuple[dict[int, float | None], dict[str, str]]:
    """The values by position, and why pictures are bad, of all parts."""
    values: dict[int, float | None] = {}
    bad: dict[str, str] = {}
    for _, _, line in parts.records():
        values.update(line["values"])
        bad.update(line["bad"])
    return values, bad
