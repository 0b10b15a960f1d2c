"""The measures of sampled captions carry the names of the logs."""

import pytest

from rlcap.evaluation.grammar import harper_installed
from rlcap.evaluation.samples import sample_measures


def test_names_and_values() -> None:
    measures = sample_measures(["A dog in in the snow.", "a man on a"], harper_at_most=0)
    assert measures == {
        "repetition/rep_1": 1.0,  # "in", "a"
        "repetition/rep_2": 0.0,
        "repetition/rep_3": 0.0,
        "repetition/rep_4": 0.0,
        "grammar/bad_ending_rate": 50.0,
    }


@pytest.mark.skipif(not harper_installed(), reason="the grammar checker is optional: pip install 'rlcap[grammar]'")
def test_harper_is_there_where_it_is_installed() -> None:
    captions = ["A dog in in the snow.", "a man on a horse"]
    assert sample_measures(captions)["grammar/harper_error_rate"] == 50
    assert sample_measures(captions, harper_at_most=1)["grammar/harper_error_rate"] == 100


def test_no_caption_is_an_error() -> None:
    with pytest.raises(ValueError, match="no caption"):
        sample_measures([])
