"""Chains on the terminal."""

from typing import Any

import pytest

from rlcap.data.edits import edit_between
from rlcap.degrading.show import shown

CAPTIONS = ["a dog runs . the dog barks", "a cat runs . the cat barks"]
OLD = {"kind": "object", "before": "dog runs . the dog", "after": "cat runs . the cat", "at": 2}  # one span, as it was
MARKED = "object     a [cat] (was: dog) runs . the [cat] (was: dog) barks"


@pytest.mark.parametrize("edit", [edit_between(*CAPTIONS, "object").as_json(), OLD, {"kind": "object"}])
def test_every_place_of_an_edit_is_marked(edit: dict[str, Any]) -> None:
    told = shown({"image_id": "v", "captions": CAPTIONS, "edits": [edit]}, marks=True).plain.splitlines()
    assert [line.rstrip() for line in told] == ["v", f"{'':10} {CAPTIONS[0]}", MARKED]


def test_what_is_recorded_is_shown_and_what_does_not_lead_there_is_not() -> None:
    def marked(*changes: tuple[str, str, int]) -> str:
        edit = {"changes": [dict(zip(("before", "after", "at"), change, strict=True)) for change in changes]}
        return shown({"captions": ["two dogs", "two dogs dogs"], "edits": [edit]}, marks=True).plain

    assert "[two dogs] (was: two) dogs" in marked(("two", "two dogs", 0))
    assert "two [dogs dogs] (was: dogs)" in marked(("two", "three", 0))
