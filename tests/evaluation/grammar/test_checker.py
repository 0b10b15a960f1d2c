"""What holds for every checker, and the rate that follows from its findings."""

import json
from pathlib import Path

import pytest

from rlcap.evaluation.grammar import BAD_ENDING, CHECKERS, Checker, error_rate
from rlcap.evaluation.grammar.sentence import as_sentence
from rlcap.evaluation.metrics import FAMILIES, direction

STARTS_WITH_X = Checker("x", "x_rate", "percent that start with x", lambda caption: ["x"] * caption.startswith("x"))


def test_rate() -> None:
    captions = ["x a", "b", "b", "c x", "x x"]
    assert error_rate(STARTS_WITH_X, captions) == 40
    assert error_rate(STARTS_WITH_X, captions, at_most=5) == 40
    assert error_rate(STARTS_WITH_X, captions, at_most=2) == 50  # the first and the third
    assert error_rate(STARTS_WITH_X, captions, at_most=1) == 100
    assert error_rate(STARTS_WITH_X, ["b", "b", "x"] * 40) == pytest.approx(100 / 3)


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="bad_ending_rate: there is no caption"):
        error_rate(BAD_ENDING, [])
    with pytest.raises(ValueError, match="at_most is 0"):
        error_rate(STARTS_WITH_X, ["a"], at_most=0)


def test_each_is_a_family_of_one_measure_of_which_less_is_better() -> None:
    for name, checker in CHECKERS.items():
        assert name == checker.name
        assert FAMILIES[name] == {checker.measure: checker.text}
        assert direction(checker.measure) == -1


@pytest.mark.parametrize("name", [name for name, checker in CHECKERS.items() if checker.in_samples])
def test_good_captions_and_none_pass(name: str) -> None:
    checker = CHECKERS[name]
    if (reason := checker.missing()) is not None:
        pytest.skip(reason)
    for caption in ("", " . ", "A man in a red hat rides a horse.", "two dogs run across the grass"):
        assert checker.errors(caption) == []


@pytest.mark.parametrize(
    ("name", "most"), [("bad_ending", 0.5), ("repeated_word", 0.1), ("harper", 1.0)], ids=lambda value: str(value)
)
def test_human_captions_seldom_trip_them(name: str, most: float, shared: Path) -> None:
    checker = CHECKERS[name]
    if (reason := checker.missing()) is not None:
        pytest.skip(reason)
    dataset = json.loads((shared / "data/flickr8k/dataset_flickr8k.json").read_text())
    captions = [sentence["raw"] for image in dataset["images"][:200] for sentence in image["sentences"]]
    assert error_rate(checker, captions) <= most


@pytest.mark.parametrize(
    ("caption", "sentence"),
    [
        ("a man 's hat , red", "A man's hat, red."),
        ("  Two dogs   run .", "Two dogs run."),
        ("a dog does n't run", "A dog doesn't run."),
        ("", ""),
        (" . ", ""),
    ],
)
def test_captions_are_set_as_sentences(caption: str, sentence: str) -> None:
    assert as_sentence(caption) == sentence
