"""Words said twice in a row, and what is no repetition."""

import pytest

from rlcap.evaluation.grammar import REPEATED_WORD, error_rate


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a a dog", ["a a"]),
        ("A a dog in in the snow .", ["a a", "in in"]),
        ("a dog dog dog", ["dog dog"]),  # the third overlaps
        ("the boy's boy's hat", ["boy's boy's"]),
        ("two men on\ton a bench", ["on on"]),
    ],
)
def test_finds_repetitions(caption: str, found: list[str]) -> None:
    assert REPEATED_WORD.errors(caption) == found


@pytest.mark.parametrize(
    "caption",
    [
        "a dog and a dog",
        "a dog, dog and cat",  # a comma between them
        "a man man-handles a sofa",
        "a big-big dog in an inn in india",
        "the man 's s-shaped road",
        "a player with number 2 2 on it",  # digits
        "A very very wide roller coaster",  # on purpose
        "a coo coo clock",
        "fish tanks and many many cabinets",
        "",
    ],
)
def test_leaves_the_rest_alone(caption: str) -> None:
    assert REPEATED_WORD.errors(caption) == []


def test_rate() -> None:
    assert error_rate(REPEATED_WORD, ["a a dog", "a dog", "a very very red dog", "on the the grass"]) == 50
