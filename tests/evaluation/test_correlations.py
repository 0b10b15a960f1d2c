"""Correlations by hand, and where they are not defined."""

import math

import numpy as np
import pytest

from rlcap.evaluation.correlations import CORRELATIONS, TITLES, correlations
from rlcap.evaluation.judged import rating_measures


def test_by_hand() -> None:
    scores, ratings = [1.0, 2.0, 3.0, 3.0], [1.0, 3.0, 2.0, 2.4]
    found = correlations(scores, ratings)
    assert list(found) == list(CORRELATIONS) == list(TITLES)
    assert found["pearson"] == pytest.approx(np.corrcoef(scores, ratings)[0, 1])
    assert found["spearman"] == pytest.approx(np.corrcoef([1, 2, 3.5, 3.5], [1, 4, 2, 3])[0, 1])
    # concordant: 01, 02, 03; discordant: 12, 13; tied in the scores: 23
    assert found["kendall_b"] == pytest.approx(1 / math.sqrt(5 * 6))
    assert found["kendall_c"] == pytest.approx(2 * 1 / (16 * (3 - 1) / 3))
    assert correlations(scores, ratings, ["spearman"]) == {"spearman": found["spearman"]}


@pytest.mark.parametrize("sides", [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [1]), ([], [])])
def test_what_orders_nothing_has_no_correlation(sides: tuple[list[float], list[float]]) -> None:
    assert all(math.isnan(value) for value in correlations(*sides).values())
    assert set(correlations(*sides, undefined=0.0).values()) == {0.0}


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one score a rating"):
        correlations([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="1 predictions for 1 ratings; there must be as many, and at least two"):
        rating_measures([1.0], [1.0])


def test_rating_measures() -> None:
    measures = rating_measures([1.0, 2.0, 4.0], [2.0, 2.0, 3.0])
    assert measures["mae"] == pytest.approx(2 / 3)
    assert set(measures) == {"mae", *CORRELATIONS}
    assert rating_measures([1.0, 1.0], [1.0, 2.0])["kendall_c"] == 0.0
