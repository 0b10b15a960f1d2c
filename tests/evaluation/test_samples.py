"""The measures of sampled captions carry the names of the logs."""

import pytest

from rlcap.evaluation.grammar import CHECKERS, HARPER
from rlcap.evaluation.samples import sample_checkers, sample_measures


def test_names_and_values() -> None:
    captions = ["A dog in in the snow.", "a man on a"]
    assert sample_measures(captions, [CHECKERS["bad_ending"], CHECKERS["repeated_word"]]) == {
        "repetition/rep_1": 1.0,  # "in", "a"
        "repetition/rep_2": 0.0,
        "repetition/rep_3": 0.0,
        "repetition/rep_4": 0.0,
        "grammar/bad_ending_rate": 50.0,
        "grammar/repeated_word_rate": 50.0,
    }


@pytest.mark.skipif(HARPER.missing() is not None, reason="Harper is optional: pip install 'rlcap[grammar]'")
def test_harper_is_there_where_it_is_installed_and_checks_some_of_many() -> None:
    checkers = sample_checkers()
    assert [checker.name for checker in checkers] == ["bad_ending", "repeated_word", "harper"]
    wrong, right = "A dog in in the snow.", "a man on a horse"
    assert sample_measures([wrong, right], checkers)["grammar/harper_error_rate"] == 50
    many = [wrong, right] * HARPER.most_samples  # every second one is checked
    assert sample_measures(many, checkers)["grammar/harper_error_rate"] == 100
    assert sample_measures(many, checkers)["grammar/repeated_word_rate"] == 50


def test_only_what_is_named_is_used() -> None:
    assert sample_checkers([]) == []
    assert [checker.name for checker in sample_checkers(["repeated_word"])] == ["repeated_word"]


def test_no_caption_is_an_error() -> None:
    with pytest.raises(ValueError, match="no caption"):
        sample_measures([], sample_checkers([]))
