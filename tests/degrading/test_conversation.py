"""What is asked of a chat model, and which answers are taken."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from rlcap.data.edits import edit_between
from rlcap.degrading.chain import Chain, Start
from rlcap.degrading.conversation import CUT, EXAMPLES, Answer, Limits, Request, conversation, described, read_answer

CAPTION = "a man in a red hat rides a horse"
START = Start(3, "a", "a#0", CAPTION, ("a man on a horse", CAPTION))


def talk(answers: Sequence[str | Answer | None], **limits: Any) -> tuple[Chain, list[Request]]:
    """The chain of a conversation with these answers, and what was asked."""
    going = conversation(START, 0, Limits(**{"length": 3, "tries": 2, **limits}))
    asked = [next(going)]
    left = iter(answers)
    while True:
        try:
            said = next(left)
            asked.append(going.send(said if isinstance(said, Answer) else Answer(said or "")))
        except StopIteration as end:
            assert next(left, "none left") == "none left"
            return end.value, asked


def answer(kind: str, caption: str) -> str:
    return json.dumps({"kind": kind, "caption": caption})


BLUE = answer("attribute", "a man in a blue hat rides a horse")
COW = answer("object", "a man in a blue hat rides a cow")


def test_a_chain() -> None:
    chain, asked = talk([BLUE, COW])
    assert chain.captions == (START.caption, "a man in a blue hat rides a horse", "a man in a blue hat rides a cow")
    assert chain.edits == tuple(
        edit_between(*pair, kind)
        for *pair, kind in zip(chain.captions, chain.captions[1:], ("attribute", "object"), strict=False)
    )
    assert [change.at for edit in chain.edits for change in edit.changes] == [11, 28]
    assert chain.failures == {}
    said = asked[1].messages[-1]["content"]
    assert said.endswith("Caption:\na man in a blue hat rides a horse")
    assert '"red" to "blue"' in said
    assert "a man on a horse" in said
    assert len({request.seed for request in asked}) == 2


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (None, "no answer"),
        (" ", "no answer"),
        (Answer("", "refused by the endpoint: HTTP 400"), "refused by the endpoint: HTTP 400"),
        (Answer(COW[:30], CUT), "answer cut off"),
        ("Sure! a man in a blue hat", "no JSON with kind and caption"),
        ('{"kind": "object"}', "no JSON with kind and caption"),
        (answer("colour", "a man in a green hat rides a horse"), "unknown kind"),
        (answer("object", "A man in a blue hat rides a horse ."), "nothing changed"),
        (answer("attribute", "a man in a red hat rides a horse"), "an earlier caption again"),
        (answer("attribute", "a man in a green hat rides a horse"), "a changed detail changed again"),
        (answer("object", "a man in a blue hat rides a big brown fat old horse today"), "much longer or shorter"),
        (answer("object", "a girl in a blue hat walks a cow"), "more than one detail changed"),
        (answer("object", "a girl in a blue hat rides a cow"), "more than one detail changed"),
        (answer("order", "a horse in a blue hat rides a cow"), "more than one detail changed"),
        (answer("object", "two cats"), "much longer or shorter"),
    ],
)
def test_what_is_refused_is_asked_again_and_counted(refused: str | Answer | None, reason: str) -> None:
    chain, asked = talk([BLUE, refused, COW], words=6)
    assert chain.captions[1:] == ("a man in a blue hat rides a horse", "a man in a blue hat rides a cow")
    assert chain.failures == {reason: 1}
    assert asked[1].messages == asked[2].messages
    assert asked[1].seed != asked[2].seed


@pytest.mark.parametrize(
    ("kind", "caption", "changed"),
    [
        *EXAMPLES,
        ("person", "a man washes his car", "a woman washes her car"),
        ("object", "a cat sleeps . the cat wakes up .", "an owl sleeps . the owl wakes up ."),
        ("count", "a dog runs on grass and jumps", "two dogs run on grass and jump"),
        ("relation", "a cat is on top of a chair", "a cat is under a chair"),
        ("order", "a girl opens a door and then hugs a dog", "a girl hugs a dog and then opens a door"),
    ],
)
def test_one_detail_is_taken_in_several_places_too(kind: str, caption: str, changed: str) -> None:
    going = conversation(Start(0, "a", "a#0", caption), 0, Limits(length=2, tries=1))
    next(going)
    with pytest.raises(StopIteration) as ended:
        going.send(Answer(answer(kind, changed)))
    assert ended.value.value.captions == (caption, changed)


def test_a_cut_answer_that_says_all_is_taken() -> None:
    chain, asked = talk([BLUE, Answer(COW + " And so", CUT)])
    assert len(chain.captions) == 3
    assert chain.failures == {}
    assert [request.caption for request in asked] == list(chain.captions[:2])


def test_a_chain_ends_where_nothing_comes() -> None:
    chain, asked = talk([BLUE, "no", "no"])
    assert len(chain.captions) == 2
    assert chain.failures == {"no JSON with kind and caption": 2, "given up": 1}
    assert len(asked) == 3


def test_details_are_kept_where_earlier_words_move() -> None:
    """ "blue" stands further on after the second edit, and is still not to be changed again."""
    longer = answer("person", "an old lady in a blue hat rides a horse")
    back = answer("attribute", "an old lady in a red hat rides a horse")
    chain, _ = talk([BLUE, longer, back, "no"], length=4)
    assert chain.failures["a changed detail changed again"] == 1
    assert len(chain.captions) == 3


def test_answers_in_other_words() -> None:
    assert read_answer('```json\n{"kind": " Object", "caption": " a\\n b "}\n```') == ("object", "a b")
    assert read_answer('{"x": 1} then {"kind": "scene", "caption": "c"}') == ("scene", "c")
    assert read_answer("{ {") is None


def test_a_detail_said_twice_is_one_edit_in_two_places() -> None:
    twice = Start(3, "a", "a#0", "a cat sits by the red cat")
    going = conversation(twice, 0, Limits(length=3, tries=1))
    asked = [next(going), going.send(Answer(answer("object", "a dog sits by the red dog")))]
    assert asked[1].messages[-1]["content"].count('"cat" to "dog"') == 1
    with pytest.raises(StopIteration) as ended:
        going.send(Answer(answer("attribute", "a dog sits by the blue dog")))
    first, second = ended.value.value.edits
    assert [(change.before, change.at) for change in first.changes] == [("cat", 2), ("cat", 22)]
    assert [(change.before, change.at) for change in second.changes] == [("red", 18)]  # between them, and free


def test_examples_of_allowed_kinds_come_first() -> None:
    asked = next(conversation(START, 0, Limits(kinds=("attribute", "object"))))
    assert [message["role"] for message in asked.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [read_answer(message["content"]) for message in asked.messages[1::2]] == [
        ("attribute", "A dog lies on a red sofa."),
        ("object", "Two women wait for a train."),
    ]
    alone = next(conversation(START, 0, Limits(kinds=("scene",)))).messages
    assert len(alone) == 1
    assert alone[0]["content"].startswith("You make captions")
    assert alone[0]["content"].endswith(f"Caption:\n{START.caption}")


def test_kinds() -> None:
    assert described(["scene", "object"]) == ("object", "scene")
    assert len(described([])) == 8
    with pytest.raises(ValueError, match="no kind of edit 'colour'; there are object"):
        described(["colour"])
