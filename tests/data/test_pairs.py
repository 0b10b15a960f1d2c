"""Pairs of judged captions: no ties, nothing twice, and the ones that were asked for."""

import numpy as np
import pytest

from rlcap.data.pairs import (
    candidates,
    first_untied,
    hardest_pairs,
    levels_of,
    random_pairs,
    same_image_pairs,
    uncertain_pairs,
)

LEVELS = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 4.0])


def unordered(pairs: np.ndarray) -> set[tuple[int, int]]:
    return {(min(pair), max(pair)) for pair in pairs.tolist()}


@pytest.mark.parametrize("captions", [2, 3, 7, 401, 30_001])
def test_places_of_the_triangle_are_pairs_and_all_of_them(captions: int) -> None:
    total = captions * (captions - 1) // 2
    pairs = candidates(captions, min(total, 50_000), np.random.default_rng(0))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < captions
    assert len(unordered(pairs)) == len(pairs) == min(total, 50_000)


def test_random_pairs_are_different_oriented_and_no_ties() -> None:
    ratings = np.random.default_rng(1).integers(1, 5, 300).astype(float)
    found = random_pairs(ratings, 1500, np.random.default_rng(0))
    assert found.pairs.shape == (1500, 2)
    assert (ratings[found.pairs[:, 0]] > ratings[found.pairs[:, 1]]).all()
    assert len(unordered(found.pairs)) == 1500
    assert 1800 < found.asked < 2200  # a quarter of the pairs of four equal levels are ties
    again = random_pairs(ratings, 1500, np.random.default_rng(0))
    assert (again.pairs == found.pairs).all()
    other = random_pairs(ratings, 1500, np.random.default_rng(2), known=found.pairs)
    assert not unordered(other.pairs) & unordered(found.pairs)


def test_all_pairs_where_more_are_asked_for() -> None:
    found = random_pairs(LEVELS, 1000, np.random.default_rng(0))
    assert len(found.pairs) == 13  # 15 less two ties
    assert found.asked == 15
    assert len(random_pairs(np.ones(5), 3, np.random.default_rng(0)).pairs) == 0


def test_ties_are_counted_where_they_were_met() -> None:
    drawn = np.array([[0, 1], [0, 2], [3, 4], [5, 2], [1, 3]])
    found = first_untied(drawn, LEVELS, 2)
    assert found.pairs.tolist() == [[2, 0], [5, 2]]
    assert found.asked == 4


def test_rounding_makes_ties() -> None:
    ratings = np.array([4 / 3, 1.0, 5 / 3, 2.5, 1 / 3 + 1])
    assert levels_of(ratings).tolist() == [1, 1, 2, 2, 1]  # a half goes to the even side
    exact = levels_of(ratings, rounded=False)
    assert exact[0] == exact[4]  # though 4/3 and 1/3 + 1 may differ in the last bit
    assert len(set(exact.tolist())) == 4


def test_pairs_of_one_picture() -> None:
    owners = np.array([0, 0, 0, 1, 1, 1])
    assert same_image_pairs(LEVELS, owners).pairs.tolist() == [[2, 0], [2, 1], [5, 3], [5, 4]]
    few = same_image_pairs(LEVELS, owners, 2, np.random.default_rng(0)).pairs
    assert len(few) == 2
    assert unordered(few) <= {(0, 2), (1, 2), (3, 5), (4, 5)}


def test_active_takes_the_nearest_scores_and_hard_the_worst() -> None:
    scores = np.array([0.0, 0.1, 5.0, 2.0, 9.0, 2.05])
    none = np.zeros((0, 2), dtype=np.int64)
    unsure = uncertain_pairs(LEVELS, scores, 2, 15, np.random.default_rng(0), none)
    # |0 - 0.1| is the second nearest and a tie, found out by asking
    assert unsure.pairs.tolist() == [[5, 3], [3, 1]]
    assert unsure.asked == 3
    hard = hardest_pairs(LEVELS, scores, 2, 13, np.random.default_rng(0), none)
    assert hard.pairs.tolist() == [[5, 4], [3, 2]]  # margins 2.05 - 9 and 2 - 5
