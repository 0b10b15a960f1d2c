"""Grammar measures: broken endings, and Harper's lints, of which only the grammatical kinds count."""

import json
from pathlib import Path

import pytest

from rlcap.evaluation import grammar


def test_bad_ending_rate() -> None:
    captions = [["a", "dog", "on", "a"], ["a", "dog"], [], ["dogs", "are"]]
    assert grammar.bad_ending_rate(captions) == 50
    with pytest.raises(ValueError, match="no caption"):
        grammar.bad_ending_rate([])


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
    assert grammar.as_sentence(caption) == sentence


class TestHarper:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("harper", reason="the grammar checker is optional: pip install 'rlcap[grammar]'")

    @pytest.mark.parametrize(
        "caption",
        ["a man with a a hat", "a dog in in the snow", "a girl in a apron", "people is are standing", "they is here"],
    )
    def test_finds_grammar_errors(self, caption: str) -> None:
        assert grammar.harper_errors(caption)

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
    def test_leaves_form_alone(self, caption: str) -> None:
        assert [error for error in grammar.harper_errors(caption) if not error.startswith("AnA: An")] == []

    def test_tokenised_and_typed_captions_are_judged_alike(self) -> None:
        assert grammar.harper_errors("a dog 's ball ball") == grammar.harper_errors("A dog's ball ball.")

    def test_rate(self) -> None:
        captions = ["a dog in in the snow", "a dog in the snow", "a dog runs", "a a dog"]
        assert grammar.harper_error_rate(captions) == 50
        assert grammar.harper_error_rate(captions, at_most=2) == 50  # the first and the third
        assert grammar.harper_error_rate(captions[:1] + captions[2:3], at_most=1) == 100

    def test_upper_bound_must_allow_one(self) -> None:
        with pytest.raises(ValueError, match="at_most is 0"):
            grammar.harper_error_rate(["a dog"], at_most=0)

    def test_human_captions_seldom_trip_it(self, shared: Path) -> None:
        dataset = json.loads((shared / "data/flickr8k/dataset_flickr8k.json").read_text())
        captions = [sentence["raw"] for image in dataset["images"][:200] for sentence in image["sentences"]]
        assert grammar.harper_error_rate(captions) < 1.0
