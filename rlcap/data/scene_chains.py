"""Chains of captions of drawn scenes, each one detail worse than the one before: made from the facts of a scene.

Colours and shapes are changed to some that are nowhere in the picture, and every fact once, so that no step makes a
caption true again.
"""

import copy
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlcap.data.edits import edit_between
from rlcap.data.scene_captions import OPPOSITES, TEMPLATES, Facts, caption_of
from rlcap.data.scenes import BACKGROUNDS, COLOURS, PLACES, SHAPES, write_whole

CHAINS = "chains.jsonl"
REVERSED = {"left": "right", "right": "left", "up": "down", "down": "up"}
Change = Callable[[Facts], None]


class _OneWording(random.Random):
    """Takes the same place among synonyms again and again, so that only facts make captions differ."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def choice(self, seq: Any) -> Any:
        return seq[self.place % len(seq)]


def write_scene_chains(
    captions: str | os.PathLike[str], length: int = 5, chains_per_scene: int = 1, seed: int = 0
) -> Path:
    """Writes `chains.jsonl` beside the `captions.jsonl` of `make_scenes` and returns it; `load_chains` reads it.

    length: most captions of a chain; scenes with less to say have shorter ones. The same arguments give the same bytes.
    """
    source = Path(captions)
    lines = []
    for row in map(json.loads, source.read_text(encoding="utf-8").splitlines()):
        visual = {name: row[name] for name in ("image", "frames") if name in row}
        for number in range(chains_per_scene):
            rng = random.Random(f"{seed}/{row['image_id']}/{number}")
            chain = {"image_id": row["image_id"], **visual, "split": row["split"]}
            lines.append(json.dumps({**chain, **scene_chain(row["facts"], rng, length)}) + "\n")
    path = source.with_name(CHAINS)
    write_whole(path, "".join(lines).encode())
    return path


def scene_chain(facts: Facts, rng: random.Random, length: int) -> dict[str, Any]:
    """`captions`, 2 to `length` of them, best first, and `edits`: `kind`, `before`, `after` and `at` of every step."""
    facts = _numbered(facts)
    wording = _OneWording(rng.randrange(60))
    best = ""
    chosen: list[tuple[str, Change]] = []
    for template in rng.sample(TEMPLATES[facts["kind"]], len(TEMPLATES[facts["kind"]])):
        caption, changes = caption_of(facts, template, wording), []
        for kind, change in _changes(facts, rng):
            changed = copy.deepcopy(facts)
            change(changed)
            if caption_of(changed, template, wording) != caption:
                changes.append((kind, change))
        if len(changes) > len(chosen):
            best, chosen = template, changes
        if len(chosen) >= length - 1:
            break
    facts = copy.deepcopy(facts)
    told = [caption_of(facts, best, wording)]
    edits = []
    for kind, change in _varied(chosen, rng)[: length - 1]:
        change(facts)
        told.append(caption_of(facts, best, wording))
        edits.append(edit_between(told[-2], told[-1], kind).as_json())
    return {"captions": told, "edits": edits}


def _changes(facts: Facts, rng: random.Random) -> Iterator[tuple[str, Change]]:
    """What can be said wrongly of a scene, each with the kind of edit that it is."""
    objects = facts["objects"]
    colours = _others(COLOURS, [item["colour"] for item in objects], rng)
    shapes = _others(SHAPES, [item["shape"] for item in objects], rng)
    for number, item in enumerate(objects):
        yield "attribute", _set_in("objects", number, "colour", colours[number])
        yield "object", _set_in("objects", number, "shape", shapes[number % len(shapes)])
        yield "attribute", _set_in("objects", number, "size", "small" if item["size"] == "large" else "large")
        if item["count"] > 1:
            yield "count", _set_in("objects", number, "count", 5 - item["count"])  # 2 for 3, 3 for 2
    yield "scene", _set("background", rng.choice(_others(BACKGROUNDS, [facts["background"]], rng)))
    if facts["kind"] == "single":
        yield "relation", _set("relation", rng.choice(_others(PLACES, [facts["relation"]], rng)))
    if facts["kind"] == "pair":
        yield "relation", _set("relation", OPPOSITES[facts["relation"]])
    if facts["kind"] == "group":
        yield "relation", _set("relation", "column" if facts["relation"] == "row" else "row")
    for number, motion in enumerate(facts["motions"]):
        yield "action", _set_in("motions", number, "direction", REVERSED[motion["direction"]])
    if len(facts["motions"]) > 1:
        yield "order", _turn_round


def _numbered(facts: Facts) -> Facts:
    """A copy whose objects and motions keep their numbers when their order is changed."""
    facts = copy.deepcopy(facts)
    for items in ("objects", "motions"):
        for number, item in enumerate(facts[items]):
            item["number"] = number
    return facts


def _varied(changes: Sequence[tuple[str, Change]], rng: random.Random) -> list[tuple[str, Change]]:
    """The changes in random order, those of a kind that has not come yet first."""
    left = rng.sample(changes, len(changes))
    ordered: list[tuple[str, Change]] = []
    while left:
        counts = [sum(kind == own for kind, _ in ordered) for own, _ in left]
        ordered.append(left.pop(counts.index(min(counts))))
    return ordered


def _others(values: Any, present: Sequence[str], rng: random.Random) -> list[str]:
    left = sorted(value for value in values if value not in present)
    return rng.sample(left, len(left))


def _set(key: str, value: str) -> Change:
    return lambda facts: facts.__setitem__(key, value)


def _set_in(items: str, number: int, key: str, value: Any) -> Change:
    def change(facts: Facts) -> None:
        (item,) = (item for item in facts[items] if item["number"] == number)
        item[key] = value

    return change


def _turn_round(facts: Facts) -> None:
    """What came first comes last."""
    facts["motions"].reverse()
    facts["objects"].reverse()
