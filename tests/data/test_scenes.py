"""Scenes: the same from the same seed, no scene twice, and every reference true of the pixels."""

import hashlib
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlcap.data import load_captions, require_references
from rlcap.data.scene_captions import TEMPLATES, scene_references
from rlcap.data.scenes import BACKGROUNDS, COLOURS, SHAPES, draw_scene, load_facts, make_scenes, scene_rows

# Changes with what is drawn or said; raise rlcap.data.scenes.VERSION then, so that old folders are not taken for new.
CAPTIONS_OF_VERSION_1 = "2023d00c3782af9622b0e080cfd6ef0a20f5ddf6379d773f713634048808e487"
RELATED = re.compile(
    rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) (?:is )?((?:to the )?(?:left|right) of|above|over|below|under) "
    rf"an? (?:small |little |tiny |large |big )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
)
DIRECTION = re.compile(r"\b(left|right|up|down)(?:wards)?\b")


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


def told(facts: dict) -> str:
    """The facts without places."""
    objects = [{key: item[key] for key in ("shape", "colour", "size", "count")} for item in facts["objects"]]
    return json.dumps({**facts, "objects": objects}, sort_keys=True)


def centre(image: Image.Image, colour: str) -> np.ndarray:
    """The mean position [x, y] of a colour's pixels."""
    ys, xs = np.nonzero((np.asarray(image) == COLOURS[colour]).all(axis=-1))
    assert len(xs), f"no {colour} pixel"
    return np.array([xs.mean(), ys.mean()])


@pytest.mark.parametrize("clips", [False, True])
def test_same_seed_same_bytes(tmp_path: Path, clips: bool) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_scenes(tmp_path / name, 20, 5, 5, seed, clips=clips)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_what_a_version_draws_and_says(tmp_path: Path) -> None:
    captions = b"".join(
        make_scenes(tmp_path / str(clips), 50, 5, 5, 0, clips=clips).read_bytes() for clips in (False, True)
    )
    assert hashlib.sha256(captions).hexdigest() == CAPTIONS_OF_VERSION_1


@pytest.mark.parametrize("clips", [False, True])
def test_scenes_are_a_data_set(tmp_path: Path, clips: bool) -> None:
    captions = make_scenes(tmp_path / "s", 40, 10, 12, 0, clips=clips, size=48, frames=5)
    for split, number in (("train", 40), ("val", 10), ("test", 12)):
        dataset = load_captions(captions, split=split)
        assert len(dataset) == number
        require_references(dataset)
        assert all(len(set(references)) == 5 for references in dataset["references"])
        for row in dataset:
            paths = row["frames"] if clips else [row["image"]]
            assert len(paths) == (5 if clips else 1)
            assert all(Image.open(path).size == (48, 48) for path in paths)
    facts = load_facts(captions)
    assert len(facts) == 62
    assert all(len(item["places"]) == (5 if clips else 1) for fact in facts.values() for item in fact["objects"])


@pytest.mark.parametrize("clips", [False, True])
def test_no_scene_twice(clips: bool) -> None:
    rows = list(scene_rows(1500, 200, 200, 0, clips=clips))
    assert len({told(row["facts"]) for row in rows}) == len(rows)
    assert len({tuple(image.tobytes() for image in draw_scene(row["facts"])) for row in rows}) == len(rows)
    assert len({row["image_id"] for row in rows}) == len(rows)


def test_left_of_and_right_of_are_one_scene() -> None:
    seen = set()
    for row in scene_rows(3000, 0, 0, 0):
        facts = row["facts"]
        if facts["kind"] == "pair":
            swap = {"right of": "left of", "below": "above"}.get(facts["relation"])
            if swap:
                facts = {**facts, "objects": facts["objects"][::-1], "relation": swap}
            assert told(facts) not in seen
            seen.add(told(facts))
    assert len(seen) > 1000


def test_test_scenes_do_not_depend_on_the_number_of_training_scenes() -> None:
    few = [row for row in scene_rows(10, 20, 30, 7) if row["split"] != "train"]
    many = [row for row in scene_rows(100, 20, 30, 7) if row["split"] != "train"]
    assert few == many


@pytest.mark.parametrize("clips", [False, True])
def test_references_name_only_colours_and_backgrounds_that_are_there(clips: bool) -> None:
    named = 0
    for row in scene_rows(300, 0, 0, 0, clips=clips):
        frames = draw_scene(row["facts"])
        corner = frames[0].getpixel((0, 0))
        present = [{colour for _, colour in frame.getcolors(64 * 64)} for frame in frames]
        for reference in row["references"]:
            for word in reference.split():
                if word in COLOURS:
                    assert all(COLOURS[word] in colours for colours in present), reference
                    named += 1
                if word in BACKGROUNDS:
                    assert corner == BACKGROUNDS[word], reference
                assert not (word in SHAPES and word not in {item["shape"] for item in row["facts"]["objects"]})
    assert named > 1500


def test_relations_hold_in_the_pixels() -> None:
    checked = 0
    for row in scene_rows(400, 0, 0, 0):
        image = draw_scene(row["facts"])[0]
        for reference in row["references"]:
            match = RELATED.search(reference)
            if match is None or match[1] == match[4]:
                continue
            dx, dy = centre(image, match[1]) - centre(image, match[4])
            holds = {"left": dx < -10, "right": dx > 10, "above": dy < -10, "over": dy < -10}
            word = match[3].removeprefix("to the ").removesuffix(" of")
            assert holds.get(word, dy > 10), reference
            checked += 1
    assert checked > 400


def test_counts_and_places_hold_in_the_pixels() -> None:
    kinds = set()
    for row in scene_rows(300, 0, 0, 0):
        facts = row["facts"]
        image = draw_scene(facts)[0]
        if facts["kind"] == "group":
            mask = (np.asarray(image) == COLOURS[facts["objects"][0]["colour"]]).all(axis=-1)
            along = mask.any(axis=0 if facts["relation"] == "row" else 1).astype(int)
            word = {2: "two", 3: "three"}[int((np.diff(along) == 1).sum())]
            assert all(word in reference.split() for reference in row["references"])
        if facts["kind"] == "single":
            x, y = centre(image, facts["objects"][0]["colour"])
            place = "middle" if 24 < x < 40 else f"{'top' if y < 32 else 'bottom'} {'left' if x < 32 else 'right'}"
            assert facts["relation"] == place
            assert sum(place in reference for reference in row["references"]) >= 2
        if facts["kind"] == "inside":
            inner, outer = (item["colour"] for item in facts["objects"])
            assert np.abs(centre(image, inner) - centre(image, outer)).max() < 2
            assert any(f"{inner} {facts['objects'][0]['shape']} is inside" in ref for ref in row["references"])
        kinds.add(facts["kind"])
    assert kinds == {"single", "pair", "group", "inside", "trio"}


def test_motions_and_their_order_hold_in_the_pixels() -> None:
    kinds, told_so = set(), 0
    for row in scene_rows(200, 0, 0, 0, clips=True):
        facts = row["facts"]
        frames = draw_scene(facts)
        colours = [item["colour"] for item in facts["objects"]]
        kinds.add(facts["kind"])
        if len(set(colours)) < len(colours):
            continue
        steps = [np.diff([centre(frame, colour) for frame in frames], axis=0) for colour in colours]
        early, late = [step[0] for step in steps], [step[-1] for step in steps]
        seen = [_direction(early[0]), _direction(late[-1])]
        if facts["kind"] == "sequence":
            assert np.abs(late[0]).max() < 1
            assert np.abs(early[1]).max() < 1
        if facts["kind"] == "move":
            assert seen[0] == seen[1]
            seen = seen[:1]
        assert [motion["direction"] for motion in facts["motions"]] == seen
        for reference in row["references"]:
            said = DIRECTION.findall(reference)
            if " slides " in reference:  # from the left to the right
                said = [{"top": "up", "bottom": "down"}.get(reference.split()[-1], reference.split()[-1])]
            if " after " in reference:
                said.reverse()
            assert said in ([], seen), reference
            told_so += said == seen
    assert told_so > 500
    assert kinds == {"move", "turn", "sequence"}


def _direction(step: np.ndarray) -> str:
    dx, dy = step
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def test_every_template_can_be_filled_in() -> None:
    rng = random.Random(0)
    said: dict[str, set[str]] = {}
    for clips in (False, True):
        for row in scene_rows(300, 0, 0, 0, clips=clips):
            kind = row["facts"]["kind"]
            said.setdefault(kind, set()).update(scene_references(row["facts"], rng, count=len(TEMPLATES[kind])))
    assert set(said) == set(TEMPLATES)
    captions = set.union(*said.values())
    assert not any("{" in caption for caption in captions)
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", caption) for caption in captions)
    assert 60 < len({word for caption in captions for word in caption.split()}) < 100
    lengths = [len(caption.split()) for caption in captions]
    assert (min(lengths), max(lengths)) == (5, 20)


def test_shapes_differ_by_how_much_of_their_box_they_fill() -> None:
    filled = {}
    for shape in SHAPES:
        item = {"shape": shape, "colour": "red", "radius": 0.4, "places": [[[0.5, 0.5]]]}
        pixels = np.asarray(draw_scene({"background": "white", "objects": [item]}, size=200)[0])
        ys, xs = np.nonzero((pixels == COLOURS["red"]).all(axis=-1))
        filled[shape] = len(xs) / ((np.ptp(xs) + 1) * (np.ptp(ys) + 1))
    expected = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5, "diamond": 0.5, "cross": 1 - 0.65**2, "star": 0.31}
    assert filled == pytest.approx(expected, abs=0.03)


def test_a_finished_folder_is_kept_and_an_interrupted_one_completed(tmp_path: Path) -> None:
    captions = make_scenes(tmp_path / "s", 10, 2, 2, 0)
    before = digest(tmp_path / "s")
    stamp = captions.stat().st_mtime_ns
    assert make_scenes(tmp_path / "s", 10, 2, 2, 0).stat().st_mtime_ns == stamp
    captions.unlink()  # as it is when the drawing was interrupted
    next((tmp_path / "s/images").glob("*.png")).write_bytes(b"half a pict")
    make_scenes(tmp_path / "s", 10, 2, 2, 0)
    assert digest(tmp_path / "s") == before


def test_errors(tmp_path: Path) -> None:
    make_scenes(tmp_path / "s", 10, 2, 2, 0)
    with pytest.raises(ValueError, match="holds other scenes"):
        make_scenes(tmp_path / "s", 10, 2, 2, 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/captions.jsonl").write_text("my captions")
    with pytest.raises(ValueError, match="was not drawn by this program"):
        make_scenes(tmp_path / "mine", 1, 1, 1, 0)
    assert (tmp_path / "mine/captions.jsonl").read_text() == "my captions"
    with pytest.raises(ValueError, match="at least 32 pixels"):
        make_scenes(tmp_path / "t", 1, 1, 1, 0, size=16)
    with pytest.raises(ValueError, match="at least 3 frames"):
        make_scenes(tmp_path / "u", 1, 1, 1, 0, clips=True, frames=2)
