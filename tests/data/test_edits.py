"""Edits between texts."""

import random

import pytest

from rlcap.data.edits import Change, Edit, edit_between, same


@pytest.mark.parametrize(
    ("first", "second", "before", "after", "at"),
    [
        ("a red cat sits", "a blue cat sits", "red", "blue", 2),
        ("a red cat", "an orange cat", "a red", "an orange", 0),
        ("he sits on it", "he sits in front of it", "on", "in front of", 8),
        ("a dog", "a big dog", "a", "a big", 0),
        ("a big dog runs", "a dog runs", "a big", "a", 0),
        ("big dog", "dog", "big dog", "dog", 0),
        ("a cat.", "a dog.", "cat", "dog", 2),
        ("dog", "cat", "dog", "cat", 0),
        ("a t-shirt", "a t-vest", "t-shirt", "t-vest", 2),
    ],
)
def test_a_change_of_whole_words(first: str, second: str, before: str, after: str, at: int) -> None:
    edit = edit_between(first, second, "object")
    assert edit == Edit("object", (Change(before, after, at),))
    assert edit.applied(first) == second


@pytest.mark.parametrize(
    ("first", "second", "changes"),
    [
        ("a man in his car .", "a woman in her car .", [("man", "woman", 2), ("his", "her", 9)]),
        ("a dog runs . the dog barks", "a cat runs . the cat barks", [("dog", "cat", 2), ("dog", "cat", 17)]),
        ("dogs", "two big dogs", [("dogs", "two big dogs", 0)]),
        ("a b c", "x a c", [("a b", "x a", 0)]),  # what is added and what is taken away meet in "a"
        ("he runs then sits", "he sits then runs", [("runs then sits", "sits then runs", 3)]),
    ],
)
def test_every_place_is_a_change_of_its_own(first: str, second: str, changes: list[tuple[str, str, int]]) -> None:
    edit = edit_between(first, second, "")
    assert edit.applied(first) == second
    assert [(change.before, change.after, change.at) for change in edit.changes] == changes


def test_a_file_has_all_changes_and_the_first_beside_them() -> None:
    edit = edit_between("a man in his car .", "a woman in her car .", "person")
    both = [{"before": "man", "after": "woman", "at": 2}, {"before": "his", "after": "her", "at": 9}]
    assert edit.as_json() == {"kind": "person", "before": "man", "after": "woman", "at": 2, "changes": both}


def test_an_article_that_follows_the_detail_is_not_the_edit() -> None:
    changes = (Change("A", "An", 0), Change("child", "adult", 2))
    row = Edit("person", changes).as_json()
    assert (row["before"], row["after"], row["at"]) == ("child", "adult", 2)
    assert [change["after"] for change in row["changes"]] == ["An", "adult"]


def test_any_two_texts_have_an_edit() -> None:
    rng = random.Random(0)
    for _ in range(500):
        first, second = (
            "".join(rng.choice(["a ", "b ", "b", ". ", ",", "  "]) for _ in range(rng.randint(1, 7))) for _ in range(2)
        )
        if first != second:
            edit = edit_between(first, second, "")
            assert edit.applied(first) == second
            assert all(change.before and change.after for change in edit.changes)
            gaps = zip(edit.changes, edit.changes[1:], strict=False)
            assert all(one.end < other.at for one, other in gaps)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="nothing differs"):
        edit_between("a", "a", "")
    with pytest.raises(ValueError, match="'dog' does not stand at 0"):
        Edit("object", (Change("dog", "cat", 0),)).applied("a dog")


def test_same_words() -> None:
    assert same("A red cat .", "a  red cat")
    assert not same("a red cat", "a blue cat")
