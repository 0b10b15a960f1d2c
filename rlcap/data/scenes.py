"""The embedded default: small drawn pictures and clips of coloured shapes, from a seed, with nothing to download.

A scene is its `facts`, from which both the picture and its references are made, so a caption can be checked against
what is truly there:

    kind        single, pair, inside, group, trio (pictures); move, turn, sequence (clips)
    background  its colour
    objects     each with shape, colour, size, count, and places [F][count][x, y]: centres in fractions of the picture
    relation    what objects[0] is to objects[1] (pair, inside), where it is (single), how they stand (group, trio)
    motions     in the order in which they happen, each with object (an index) and direction
"""

import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from rlcap.console import progress
from rlcap.data.scene_captions import Facts, scene_references

VERSION = 1  # of what is drawn and said: a change makes old folders another data set
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (40, 70, 220),
    "yellow": (250, 220, 40),
    "orange": (250, 140, 20),
    "purple": (130, 40, 160),
    "pink": (250, 150, 200),
    "brown": (120, 70, 30),
}
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128)}
RADII = {"small": 0.11, "large": 0.2}
OUTER, INNER = 0.26, 0.1  # radii of a shape with another inside it
NEAR, FAR, SHAKE = 0.25, 0.75, 0.02
PLACES = {
    "top left": (NEAR, NEAR),
    "top right": (FAR, NEAR),
    "bottom left": (NEAR, FAR),
    "bottom right": (FAR, FAR),
    "middle": (0.5, 0.5),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
PICTURE_KINDS = ("single", "group", "group", "inside", "pair", "pair", "pair", "trio")
CLIP_KINDS = ("move", "turn", "sequence", "sequence")
TRIES = 2000
STARS = (0.0, -1.0), (0.22, -0.31), (0.95, -0.31), (0.36, 0.12), (0.59, 0.81), (0.0, 0.38)


def make_scenes(
    directory: str | os.PathLike[str],
    num_train: int,
    num_val: int,
    num_test: int,
    seed: int,
    clips: bool = False,
    size: int = 64,
    frames: int = 4,
) -> Path:
    """Draw scenes into `directory` and return its `captions.jsonl`, which `load_captions` reads; `facts` are in it too.

    The same arguments give the same bytes. PNGs of `size` x `size` go to `images/` (clips: `frames` each, to
    `frames/`); `captions.jsonl` comes last and whole, so an interrupted call is simply repeated and a finished one
    returns at once.
    Raises ValueError where the folder holds other scenes or other captions, or where there are not so many scenes.
    """
    folder = Path(directory)
    captions = folder / "captions.jsonl"
    settings = {
        "version": VERSION,
        "seed": seed,
        "splits": [num_train, num_val, num_test],
        "clips": clips,
        "size": size,
        "frames": frames if clips else 1,
    }
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, or the small shapes cannot be told apart; not {size}")
    if _settled(folder, settings):
        return captions
    pictures = folder / ("frames" if clips else "images")
    pictures.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "scenes.json", json.dumps(settings).encode() + b"\n")
    lines = []
    rows = scene_rows(num_train, num_val, num_test, seed, clips=clips, frames=frames)
    for row in progress(rows, total=num_train + num_val + num_test, desc="drawing scenes", unit="scene", leave=False):
        drawn = draw_scene(row["facts"], size)
        names = (
            [f"{row['image_id']}_{number}.png" for number in range(len(drawn))] if clips else [f"{row['image_id']}.png"]
        )
        for name, image in zip(names, drawn, strict=True):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            write_whole(pictures / name, buffer.getvalue())
        paths = [f"{pictures.name}/{name}" for name in names]
        visual = {"frames": paths} if clips else {"image": paths[0]}
        lines.append(json.dumps({"image_id": row["image_id"], **visual, **row}) + "\n")
    write_whole(captions, "".join(lines).encode())
    return captions


def load_facts(captions: str | os.PathLike[str]) -> dict[str, Facts]:
    """Return image_id -> facts from the `captions.jsonl` that `make_scenes` wrote."""
    with open(captions, encoding="utf-8") as lines:
        return {row["image_id"]: row["facts"] for row in map(json.loads, lines)}


def scene_rows(
    num_train: int, num_val: int, num_test: int, seed: int, clips: bool = False, frames: int = 4
) -> Iterator[dict[str, Any]]:
    """Yield `image_id`, `split`, `references` (five) and `facts`: the test scenes first, then val, then train.

    No two scenes have the same facts (places aside), within a split or across splits; in this order the test and val
    scenes of a seed stay the same when only `num_train` changes. Raises ValueError for fewer than three frames, which
    cannot show what came first, and where there are not so many different scenes.
    """
    if clips and frames < 3:
        raise ValueError(f"clips need at least 3 frames to show which motion came first, not {frames}")
    rng = random.Random(seed)
    seen: set[str] = set()
    for split, number in (("test", num_test), ("val", num_val), ("train", num_train)):
        for index in range(number):
            facts = _new_scene(rng, seen, frames if clips else 0)
            yield {
                "image_id": f"{split}-{index:05d}",
                "split": split,
                "references": scene_references(facts, rng),
                "facts": facts,
            }


def draw_scene(facts: Facts, size: int = 64) -> list[Image.Image]:
    """Draw a scene: one `size` x `size` RGB picture, or the frames of a clip; no smoothing, so colours are exact."""
    drawn = []
    for frame in range(len(facts["objects"][0]["places"])):
        image = Image.new("RGB", (size, size), BACKGROUNDS[facts["background"]])
        canvas = ImageDraw.Draw(image)
        for item in reversed(facts["objects"]):  # what objects[0] is inside of lies under it
            for x, y in item["places"][frame]:
                _draw_shape(canvas, item["shape"], COLOURS[item["colour"]], x * size, y * size, item["radius"] * size)
        drawn.append(image)
    return drawn


def _draw_shape(
    canvas: ImageDraw.ImageDraw, shape: str, colour: tuple[int, int, int], x: float, y: float, r: float
) -> None:
    if shape == "circle":
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "square":
        canvas.rectangle((x - 0.88 * r, y - 0.88 * r, x + 0.88 * r, y + 0.88 * r), fill=colour)
    elif shape == "triangle":
        canvas.polygon([(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)], fill=colour)
    elif shape == "diamond":
        canvas.polygon([(x, y - r), (x + 0.75 * r, y), (x, y + r), (x - 0.75 * r, y)], fill=colour)
    elif shape == "cross":
        canvas.rectangle((x - r, y - 0.35 * r, x + r, y + 0.35 * r), fill=colour)
        canvas.rectangle((x - 0.35 * r, y - r, x + 0.35 * r, y + r), fill=colour)
    else:
        assert shape == "star", shape
        left = [(-dx, dy) for dx, dy in STARS[-2:0:-1]]
        canvas.polygon([(x + dx * r, y + dy * r) for dx, dy in (*STARS, *left)], fill=colour)


def _new_scene(rng: random.Random, seen: set[str], frames: int) -> Facts:
    for _ in range(TRIES):
        kind = rng.choice(CLIP_KINDS if frames else PICTURE_KINDS)
        facts = _clip(kind, rng, frames) if frames else _picture(kind, rng)
        told = [{key: item[key] for key in ("shape", "colour", "size", "count")} for item in facts["objects"]]
        key = json.dumps({**facts, "objects": told})
        if facts["relation"] in ("right of", "below"):  # the same picture as its mirror-image statement
            mirrored = "left of" if facts["relation"] == "right of" else "above"
            key = json.dumps({**facts, "objects": told[::-1], "relation": mirrored})
        if key not in seen:
            seen.add(key)
            return facts
    raise ValueError(f"no new scene in {TRIES} tries after {len(seen)} scenes: ask for fewer")


def _facts(kind: str, rng: random.Random, objects: list[dict[str, Any]], relation: str) -> Facts:
    background = rng.choice(sorted(BACKGROUNDS))
    return {"kind": kind, "background": background, "objects": objects, "relation": relation, "motions": []}


def _picture(kind: str, rng: random.Random) -> Facts:
    shake = lambda: rng.uniform(-SHAKE, SHAKE)  # noqa: E731
    if kind == "single":
        where = rng.choice(sorted(PLACES))
        x, y = PLACES[where]
        return _facts(kind, rng, [_object(rng, [[(x + shake(), y + shake())]])], where)
    if kind == "group":
        count, how, across = rng.choice((2, 3)), rng.choice(("row", "column")), 0.5 + 4 * shake()
        along = [NEAR, FAR] if count == 2 else [0.2, 0.5, 0.8]
        places = [(at, across) if how == "row" else (across, at) for at in along]
        return _facts(kind, rng, [_object(rng, [places], size="small" if count == 3 else None)], how)
    if kind == "inside":
        x, y = 0.5 + 8 * shake(), 0.5 + 8 * shake()
        inner, outer = _different(rng, lambda: _object(rng, [[(x, y)]]), 2, by_colour=True)
        outer["shape"] = rng.choice(("circle", "square"))  # the others have too little room in their middle
        inner |= {"size": "small", "radius": INNER}
        outer |= {"size": "large", "radius": OUTER}
        return _facts(kind, rng, [inner, outer], kind)
    if kind == "trio":
        objects = _different(rng, lambda: _object(rng, [], size="small"), 3)
        y = 0.5 + 8 * shake()
        for item, x in zip(objects, (0.18, 0.5, 0.82), strict=True):
            item["places"] = [[_place(x + shake(), y)]]
        return _facts(kind, rng, objects, "row")
    relation = rng.choice(sorted(RELATIONS))
    objects = _different(rng, lambda: _object(rng, []), 2)
    dx, dy = RELATIONS[relation]
    across = 0.5 + 4 * shake()
    for item, sign in zip(objects, (1, -1), strict=True):
        at = 0.5 + sign * (dx + dy) * 0.25 + shake()
        item["places"] = [[_place(at, across) if dx else _place(across, at)]]
    return _facts(kind, rng, objects, relation)


def _clip(kind: str, rng: random.Random, frames: int) -> Facts:
    """A motion takes the clip, or each of two takes half of it."""
    times = [frame / (frames - 1) for frame in range(frames)]
    early, late = [min(1.0, 2 * t) for t in times], [max(0.0, 2 * t - 1) for t in times]
    if kind == "sequence":
        axis = rng.choice((("left", "right"), ("up", "down")))
        objects = _different(rng, lambda: _object(rng, []), 2)
        lanes = [NEAR, FAR]
        rng.shuffle(lanes)
        motions = []
        for index, (item, lane, progress) in enumerate(zip(objects, lanes, (early, late), strict=True)):
            direction = rng.choice(axis)
            motions.append({"object": index, "direction": direction})
            item["places"] = [
                [_place(at, lane) if axis[0] == "left" else _place(lane, at)] for at in _run(direction, progress)
            ]
        return {**_facts(kind, rng, objects, "lanes"), "motions": motions}
    first = rng.choice(sorted(DIRECTIONS))
    across = 0.5 + 8 * rng.uniform(-SHAKE, SHAKE)
    runs = [_run(first, early if kind == "turn" else times), [across] * frames]
    motions = [{"object": 0, "direction": first}]
    if kind == "turn":
        second = rng.choice(("up", "down") if first in ("left", "right") else ("left", "right"))
        runs[1] = _run(second, late)
        motions.append({"object": 0, "direction": second})
    xs, ys = runs if first in ("left", "right") else runs[::-1]
    item = _object(rng, [[place] for place in zip(xs, ys, strict=True)])
    return {**_facts(kind, rng, [item], "alone"), "motions": motions}


def _run(direction: str, progress: list[float]) -> list[float]:
    start, end = (NEAR, FAR) if direction in ("right", "down") else (FAR, NEAR)
    return [start + (end - start) * t for t in progress]


def _object(rng: random.Random, places: list[list[tuple[float, float]]], size: str | None = None) -> dict[str, Any]:
    size = size or rng.choice(sorted(RADII))
    return {
        "shape": rng.choice(SHAPES),
        "colour": rng.choice(sorted(COLOURS)),
        "size": size,
        "radius": RADII[size],
        "count": len(places[0]) if places else 1,
        "places": [[_place(*place) for place in frame] for frame in places],
    }


def _place(x: float, y: float) -> list[float]:
    return [round(x, 3), round(y, 3)]


def _different(rng: random.Random, draw: Any, count: int, by_colour: bool = False) -> list[dict[str, Any]]:
    """Draw objects until all can be told apart by colour and shape (by colour alone where one lies on the other)."""
    while True:
        objects = [draw() for _ in range(count)]
        if len({item["colour"] if by_colour else (item["colour"], item["shape"]) for item in objects}) == count:
            return objects


def _settled(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether `folder` holds these scenes already; raises ValueError where it holds something else."""
    note, captions = folder / "scenes.json", folder / "captions.jsonl"
    if not note.exists():
        if captions.exists():
            raise ValueError(f"{captions} was not drawn by this program: name another folder for the scenes")
        return False
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{note} is not JSON ({error}): remove the folder or name another") from error
    if found != settings:
        raise ValueError(
            f"{folder} holds other scenes ({found}) than those asked for ({settings}): remove it or name another folder"
        )
    return captions.exists()


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, then rename: the file appears whole or not at all, also where several processes draw at once."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, path)
