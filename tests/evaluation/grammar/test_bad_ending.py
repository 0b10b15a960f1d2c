"""Captions that break off."""

import pytest

from rlcap.evaluation.grammar import BAD_ENDING, error_rate


@pytest.mark.parametrize(
    ("caption", "ending"),
    [("a dog on a", "a"), ("A man looks AT .", "at"), ("dogs are", "are"), ("a boy standing before", "before")],
)
def test_finds_the_last_word(caption: str, ending: str) -> None:
    assert BAD_ENDING.errors(caption) == [ending]


@pytest.mark.parametrize("caption", ["a dog", "with a dog in the snow", "The cat is in.k", "", "..."])
def test_leaves_whole_captions_alone(caption: str) -> None:
    assert BAD_ENDING.errors(caption) == []


def test_rate() -> None:
    assert error_rate(BAD_ENDING, ["a dog on a", "a dog", "", "dogs are"]) == 50
