"""Chains of drawn scenes: one detail a step, all of them wrong from then on, and the same for the same seed."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from rlcap.data import load_chains
from rlcap.data.edits import Change, Edit
from rlcap.data.scene_chains import scene_chain, write_scene_chains
from rlcap.data.scenes import COLOURS, SHAPES, make_scenes, scene_rows


@pytest.mark.parametrize("clips", [False, True])
def test_a_step_changes_what_it_says_and_nothing_else(clips: bool) -> None:
    kinds: Counter[str] = Counter()
    for number, row in enumerate(scene_rows(200, 0, 0, seed=3, clips=clips)):
        chain = scene_chain(row["facts"], random.Random(number), 5)
        captions = chain["captions"]
        assert len(set(captions)) == len(captions) == 5
        for before, after, edit in zip(captions, captions[1:], chain["edits"], strict=False):
            changes = tuple(Change(**change) for change in edit["changes"])
            assert Edit(edit["kind"], changes).applied(before) == after
            assert vars(changes[0]) == {key: edit[key] for key in ("before", "after", "at")}
            kinds[edit["kind"]] += 1
    expected = {"attribute", "object", "scene"} | ({"action", "order"} if clips else {"relation", "count"})
    assert set(kinds) == expected


def test_the_best_caption_is_true_and_what_is_changed_is_not_in_the_picture() -> None:
    for number, row in enumerate(scene_rows(200, 0, 0, seed=4)):
        chain = scene_chain(row["facts"], random.Random(number), 5)
        there = {item[key] for item in row["facts"]["objects"] for key in ("colour", "shape")}
        words = [set(caption.replace("crosses", "cross").split()) for caption in chain["captions"]]
        named = {word for word in words[0] if word in {*COLOURS, *SHAPES}}
        assert named <= there
        for edit in chain["edits"]:
            if edit["kind"] == "object":
                assert not {word for change in edit["changes"] for word in change["after"].split()} & there


def test_the_file_is_read_as_chains(tmp_path: Path) -> None:
    source = make_scenes(tmp_path / "scenes", 6, 2, 2, seed=0, size=32)
    path = write_scene_chains(source, length=4, chains_per_scene=2, seed=1)
    assert path.read_bytes() == write_scene_chains(source, length=4, chains_per_scene=2, seed=1).read_bytes()
    chains = load_chains(path, split="train")
    assert len(chains) == 12
    assert {len(captions) for captions in chains["captions"]} == {4}
    assert Path(chains[0]["image"]).is_file()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["split"] for line in lines} == {"train", "val", "test"}
    first, second = (line["captions"] for line in lines[:2])
    assert first != second
