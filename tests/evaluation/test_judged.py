"""Agreement of scores with ratings, on numbers that can be checked by hand."""

import numpy as np
import pytest

from rlcap.evaluation.judged import agreement, errors, pair_accuracy


def test_agreement_by_hand() -> None:
    scores, ratings = np.array([1.0, 2.0, 3.0, 3.0]), np.array([1.0, 3.0, 2.0, 2.4])
    found = agreement(scores, ratings, np.array([0, 0, 1, 1]))
    # concordant: 01, 02, 03; discordant: 12, 13; tied in the scores: 23
    assert found["kendall_b"] == pytest.approx(1 / np.sqrt(5 * 6))
    assert found["kendall_c"] == pytest.approx(2 * 1 / (16 * (3 - 1) / 3))
    assert found["pearson"] == pytest.approx(np.corrcoef(scores, ratings)[0, 1])
    # rounded, 2 and 2.4 are a tie: of five pairs three are right
    assert (found["pair_accuracy"], found["pairs"]) == (pytest.approx(0.6), 5)
    assert (found["same_image_pair_accuracy"], found["same_image_pairs"]) == (1.0, 1)
    exact = agreement(scores, ratings, np.array([0, 0, 1, 1]), rounded=False)
    assert exact["pair_accuracy"] == pytest.approx(3.5 / 6)  # equal scores count as half right


def test_pairs_are_counted_over_blocks_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    scores, ratings = rng.normal(size=4500), rng.integers(1, 5, 4500).astype(float)
    found = agreement(scores, ratings, np.zeros(4500))
    first, second = np.triu_indices(4500, 1)
    differ = ratings[first] != ratings[second]
    right = (np.sign(scores[first] - scores[second]) == np.sign(ratings[first] - ratings[second]))[differ]
    assert found["pairs"] == differ.sum()
    assert found["pair_accuracy"] == pytest.approx(right.mean())


def test_preferences_need_no_ratings() -> None:
    pairs = np.array([[0, 1], [2, 1], [0, 2]])
    found = agreement(np.array([3.0, 1.0, 1.0]), np.full(3, np.nan), np.zeros(3), pairs)
    assert found == {"preference_accuracy": pytest.approx(2.5 / 3), "preferences": 3}
    assert pair_accuracy(np.array([0.0, 1.0, 2.0]), pairs) == pytest.approx(1 / 3)


def test_errors_in_rating_points() -> None:
    assert errors(np.array([1.0, 4.0]), np.array([2.0, 1.0])) == pytest.approx({"mae": 2.0, "rmse": np.sqrt(5)})
