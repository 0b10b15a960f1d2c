"""How far predicted ratings agree with those of people."""

from collections.abc import Sequence

import numpy as np


def rating_measures(predicted: Sequence[float] | np.ndarray, rated: Sequence[float] | np.ndarray) -> dict[str, float]:
    """`mae`, `pearson`, `spearman`, `kendall_b` and `kendall_c` of N predictions and N ratings.

    A correlation is 0 where one side is the same throughout: it then orders nothing. Raises ValueError where scipy is
    missing, for different lengths, and for fewer than two ratings.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise ValueError("correlation with ratings needs scipy: pip install 'rlcap[scorers]'") from error
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(rated, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"{len(a)} predictions for {len(b)} ratings; there must be as many, and at least two")
    measures = {"mae": float(np.abs(a - b).mean())}
    constant = np.ptp(a) == 0 or np.ptp(b) == 0
    correlations = {
        "pearson": lambda: stats.pearsonr(a, b).statistic,
        "spearman": lambda: stats.spearmanr(a, b).statistic,
        "kendall_b": lambda: stats.kendalltau(a, b, variant="b").statistic,
        "kendall_c": lambda: stats.kendalltau(a, b, variant="c").statistic,
    }
    return measures | {name: 0.0 if constant else float(of()) for name, of in correlations.items()}
