"""How far scores agree with what people said of the same captions."""

from collections.abc import Sequence

import numpy as np

from rlcap.data.pairs import levels_of, same_image_pairs
from rlcap.evaluation.correlations import correlations

_BLOCK = 2000  # captions whose pairs are compared at a time


def agreement(
    scores: np.ndarray,
    ratings: np.ndarray,
    pictures: np.ndarray,
    preferences: np.ndarray | None = None,
    *,
    rounded: bool = True,
) -> dict[str, float]:
    """Correlations with mean ratings [N], and the share of pairs that the scores [N] put in the people's order.

    pearson, spearman, kendall_b, kendall_c: over captions; 0 where all scores are the same, which order nothing.
    pair_accuracy, same_image_pair_accuracy: over pairs that are no ties (see rlcap.data.pairs), of any pictures and of
    one (`pictures` [N]); equal scores count as half right. preference_accuracy: over `preferences` [Q, 2], where there
    are any. What cannot be had is left out.
    """
    found: dict[str, float] = {}
    rated = np.flatnonzero(~np.isnan(ratings))
    if len(rated) > 1:
        x, y = scores[rated], ratings[rated]
        found = correlations(x, y, undefined=0.0)
        levels = levels_of(y, rounded)
        right, pairs = _all_pairs(x, levels)
        if pairs:
            found |= {"pair_accuracy": right / pairs, "pairs": pairs}
        own = same_image_pairs(levels, pictures[rated]).pairs
        if len(own):
            found |= {"same_image_pair_accuracy": pair_accuracy(x, own), "same_image_pairs": len(own)}
    if preferences is not None and len(preferences):
        found |= {"preference_accuracy": pair_accuracy(scores, preferences), "preferences": len(preferences)}
    return found


def pair_accuracy(scores: np.ndarray, pairs: np.ndarray) -> float:
    """The share of pairs [P, 2] whose better caption scores higher; equal scores count as half right."""
    gaps = scores[pairs[:, 0]] - scores[pairs[:, 1]]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def rating_measures(predicted: np.ndarray | Sequence[float], ratings: np.ndarray | Sequence[float]) -> dict[str, float]:
    """`mae`, in rating points, and the correlations of N predictions with N ratings; 0 for one that is undefined.

    Raises ValueError for different lengths, and for fewer than two ratings.
    """
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"{len(a)} predictions for {len(b)} ratings; there must be as many, and at least two")
    return {"mae": errors(a, b)["mae"], **correlations(a, b, undefined=0.0)}


def errors(predicted: np.ndarray, ratings: np.ndarray) -> dict[str, float]:
    """Mean absolute error and root mean squared error of predicted ratings [N], in rating points."""
    gaps = predicted - ratings
    return {"mae": float(np.abs(gaps).mean()), "rmse": float(np.sqrt((gaps**2).mean()))}


def _all_pairs(scores: np.ndarray, levels: np.ndarray) -> tuple[float, int]:
    right, pairs = 0.0, 0
    for start in range(0, len(scores), _BLOCK):
        block = slice(start, start + _BLOCK)
        better = levels[block, None] > levels[None, :]
        gaps = scores[block, None] - scores[None, :]
        right += float((better & (gaps > 0)).sum() + 0.5 * (better & (gaps == 0)).sum())
        pairs += int(better.sum())
    return right, pairs
