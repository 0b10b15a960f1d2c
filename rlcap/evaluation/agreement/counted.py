"""Rank correlations of a sample in which everything has a count, for bootstraps: one order serves all resamples."""

import numpy as np

MOST_LEVELS = 64  # of the ratings; with more, scipy's n log n is faster


class CountedCorrelations:
    """Kendall's τ-b and τ-c and Spearman's ρ of `scores` and `ratings` `[N]`, each thing taken `counts` times.

    Equal to scipy's `kendalltau` and `spearmanr` of the sample that repeats everything as often: all three follow from
    the table of how often each score meets each rating, whose cells are counted anew for each resample, in one pass.
    Memory and time are N times the number of distinct ratings.
    """

    def __init__(self, scores: np.ndarray, ratings: np.ndarray) -> None:
        values, of_score = np.unique(scores, return_inverse=True)
        levels, of_rating = np.unique(ratings, return_inverse=True)
        self._shape = len(values), len(levels)
        self._cell = of_score * len(levels) + of_rating

    def __call__(self, counts: np.ndarray) -> dict[str, float]:
        """`kendall_b`, `kendall_c` and `spearman` for counts `[N]`; NaN where a side is the same throughout."""
        scores, levels = self._shape
        table = np.bincount(self._cell, weights=counts, minlength=scores * levels).reshape(scores, levels)
        rows, columns = table.sum(1), table.sum(0)
        size, classes = rows.sum(), min(np.count_nonzero(rows), np.count_nonzero(columns))
        if classes < 2:
            return dict.fromkeys(("kendall_b", "kendall_c", "spearman"), float("nan"))
        lower = np.cumsum(table, axis=0) - table  # of each rating, how many have a smaller score
        below = np.cumsum(lower, axis=1) - lower
        above = lower.sum(1, keepdims=True) - below - lower
        concordant_less_discordant = (table * (below - above)).sum()
        untied = [(size**2 - (side**2).sum()) / 2 for side in (rows, columns)]
        ranks = [np.cumsum(side) - side / 2 - size / 2 for side in (rows, columns)]  # averages of ties, less their mean
        spreads = [(side * rank**2).sum() for side, rank in zip((rows, columns), ranks, strict=True)]
        return {
            "kendall_b": float(concordant_less_discordant / np.sqrt(untied[0] * untied[1])),
            "kendall_c": float(2 * concordant_less_discordant / (size**2 * (classes - 1) / classes)),
            "spearman": float(ranks[0] @ table @ ranks[1] / np.sqrt(spreads[0] * spreads[1])),
        }
