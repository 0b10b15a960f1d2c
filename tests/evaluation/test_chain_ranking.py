"""How well scores put chains in order, against numbers worked out by hand and scipy's Kendall tau."""

import pytest
from scipy.stats import kendalltau

from rlcap.evaluation.ranking import means, ranking_sums

SCORES = [[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 5.0, 1.0], [0.0, 0.0]]
KINDS = [["object", "count", "object"], ["", "count"], ["object", "object"], ["scene"]]


def test_measures_by_hand() -> None:
    found = means(ranking_sums(SCORES, KINDS))
    assert list(found)[:4] == ["pair_accuracy", "adjacent_accuracy", "kendall_tau", "exact_order"]
    assert found == pytest.approx(
        {
            "pair_accuracy": (6 + 0 + 2 + 0) / (6 + 3 + 3 + 1),
            "adjacent_accuracy": (3 + 0 + 1 + 0) / (3 + 2 + 2 + 1),
            "kendall_tau": (1 - 1 + 1 / 3 + 0) / 4,
            "exact_order": 1 / 4,
            "adjacent_accuracy/object": 3 / 4,
            "adjacent_accuracy/count": 1 / 2,
            "adjacent_accuracy/scene": 0.0,
        }
    )


def test_kendall_tau_is_scipys() -> None:
    scores = [0.3, 0.9, -1.0, 0.1, 0.2]
    expected = kendalltau(scores, range(len(scores), 0, -1)).statistic
    assert means(ranking_sums([scores]))["kendall_tau"] == pytest.approx(expected)


def test_what_has_no_order_is_left_out() -> None:
    assert ranking_sums([[1.0], []]) == {}
    assert means(ranking_sums([[1.0], [2.0, 1.0]]))["pair_accuracy"] == 1.0
