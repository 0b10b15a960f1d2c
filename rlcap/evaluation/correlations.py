"""Correlations of scores with ratings: one set of names and one convention for all that measures agreement."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CORRELATIONS = {
    "pearson": lambda a, b: stats.pearsonr(a, b),
    "spearman": lambda a, b: stats.spearmanr(a, b),
    "kendall_b": lambda a, b: stats.kendalltau(a, b, variant="b"),
    "kendall_c": lambda a, b: stats.kendalltau(a, b, variant="c"),
}
# What the keys are called in tables and plots.
TITLES = {"pearson": "Pearson", "spearman": "Spearman ρ", "kendall_b": "Kendall τ-b", "kendall_c": "Kendall τ-c"}


def correlations(
    scores: Sequence[float] | np.ndarray,
    ratings: Sequence[float] | np.ndarray,
    names: Sequence[str] = tuple(CORRELATIONS),
    *,
    undefined: float = float("nan"),
) -> dict[str, float]:
    """`pearson`, `spearman`, `kendall_b` and `kendall_c` of N scores and N ratings, by scipy, or those of `names`.

    undefined: their value where one side is the same throughout, or there are fewer than two. Raises ValueError for
    different lengths.
    """
    a, b = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"scores are {a.shape} and ratings {b.shape}; there must be one score a rating")
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return dict.fromkeys(names, undefined)
    return {name: float(CORRELATIONS[name](a, b).statistic) for name in names}
