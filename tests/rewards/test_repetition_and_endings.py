"""The rewards that look at a caption alone."""

import pytest

from rewards.endings import BAD_ENDINGS, BadEnding, is_bad_ending
from rewards.repetition import Repetition, repeated_ngrams, repetition_share


@pytest.mark.parametrize(
    ("tokens", "n", "expected"),
    [("a b a b a", 1, (3, 5)), ("a b a b a", 2, (2, 4)), ("a b a b a", 4, (0, 2)), ("a b", 3, (0, 0)), ("", 1, (0, 0))],
)
def test_repeated_ngrams(tokens: str, n: int, expected: tuple[int, int]) -> None:
    assert repeated_ngrams(tokens.split(), n) == expected


def test_repetition_share_without_ngrams_is_zero() -> None:
    assert repetition_share(["a"], 2) == 0.0


def test_repetition_reward_is_minus_the_share() -> None:
    captions = ["A dog, a dog, a dog.", "a dog runs", ""]
    assert Repetition(n=1)(captions, references=None) == [pytest.approx(-4 / 6), 0.0, 0.0]
    assert Repetition(n=2)(captions) == [pytest.approx(-3 / 5), 0.0, 0.0]


def test_repetition_wants_an_ngram() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        Repetition(n=0)


def test_bad_endings_are_those_of_self_critical() -> None:
    assert " ".join(sorted(BAD_ENDINGS)) == "a after am an are at before for in is near of on the to upon with"
    assert is_bad_ending(["a", "dog", "with"])
    assert not is_bad_ending(["with", "a", "dog"])
    assert not is_bad_ending([])


def test_bad_ending_reward_sees_through_punctuation_and_case() -> None:
    assert BadEnding()(["A dog with A .", "a dog on the", "a dog", ""]) == [-1.0, -1.0, 0.0, 0.0]
