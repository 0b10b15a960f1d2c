"""Edits between texts."""

import random

import pytest

from rlcap.degrading.chain import Edit, edit_between, same


@pytest.mark.parametrize(
    ("first", "second", "before", "after", "at"),
    [
        ("a red cat sits", "a blue cat sits", "red", "blue", 2),
        ("a red cat", "an orange cat", "a red", "an orange", 0),
        ("he sits on it", "he sits in front of it", "on", "in front of", 8),
        ("a man in his car .", "a woman in her car .", "man in his", "woman in her", 2),
        ("a dog", "a big dog", "a", "a big", 0),
        ("a big dog runs", "a dog runs", "a big", "a", 0),
        ("big dog", "dog", "big dog", "dog", 0),
        ("a cat.", "a dog.", "cat", "dog", 2),
        ("dog", "cat", "dog", "cat", 0),
        ("a t-shirt", "a t-vest", "t-shirt", "t-vest", 2),
    ],
)
def test_the_least_span_of_whole_words(first: str, second: str, before: str, after: str, at: int) -> None:
    edit = edit_between(first, second, "object")
    assert edit == Edit("object", before, after, at)
    assert edit.applied(first) == second


def test_any_two_texts_have_an_edit() -> None:
    rng = random.Random(0)
    for _ in range(500):
        first, second = (
            "".join(rng.choice(["a ", "b ", "b", ". ", ",", "  "]) for _ in range(rng.randint(1, 7))) for _ in range(2)
        )
        if first != second:
            edit = edit_between(first, second, "")
            assert edit.applied(first) == second
            assert first[: edit.at] == second[: edit.at]


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="nothing differs"):
        edit_between("a", "a", "")
    with pytest.raises(ValueError, match="'dog' does not stand at 0"):
        Edit("object", "dog", "cat", 0).applied("a dog")


def test_same_words() -> None:
    assert same("A red cat .", "a  red cat")
    assert not same("a red cat", "a blue cat")
