"""Harper's lints, of which only the grammatical kinds count."""

import pytest

from rlcap.evaluation.grammar import HARPER, error_rate

pytest.importorskip("harper", reason="the grammar checker is optional: pip install 'rlcap[grammar]'")


@pytest.mark.parametrize(
    "caption",
    ["a man with a a hat", "a dog in in the snow", "a girl in a apron", "people is are standing", "they is here"],
)
def test_finds_grammar_errors(caption: str) -> None:
    assert HARPER.errors(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a grey dog with a racquet",  # spelling of another dialect
        "woman in a blue jacket at the white water",  # compounds
        "a living room with a tv in london",  # lower-case names
        "a man 's lap , a red , white and blue kite",  # tokenised text, Oxford comma
        "an suv gets ready for a landing",  # rules that are wrong on captions
    ],
)
def test_leaves_form_alone(caption: str) -> None:
    assert [error for error in HARPER.errors(caption) if not error.startswith("AnA: An")] == []


def test_tokenised_and_typed_captions_are_judged_alike() -> None:
    assert HARPER.errors("a dog 's ball ball") == HARPER.errors("A dog's ball ball.")


def test_rate() -> None:
    captions = ["a dog in in the snow", "a dog in the snow", "a dog runs", "a a dog"]
    assert error_rate(HARPER, captions) == 50
