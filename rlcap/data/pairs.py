"""Pairs of captions of which people preferred one: at random, of one picture, or those that a model is unsure of.

A pair is (better, worse), indices into the captions; pairs are arrays [P, 2]. Captions are of one level, a tie, where
their mean ratings are the same after rounding, as in the published code; a tie says nothing and is dropped. What had to
be looked at to find the pairs, ties among them, is counted as `asked`: it is what people would have been paid for.
"""

from typing import NamedTuple

import numpy as np

KINDS = ("random", "same_image", "hard", "active", "given")


class Pairs(NamedTuple):
    """Pairs [P, 2], better first, and how many were looked at to find them."""

    pairs: np.ndarray
    asked: int


def levels_of(ratings: np.ndarray, rounded: bool = True) -> np.ndarray:
    """Mean ratings [N] as what is compared: rounded to whole ones (.5 to even, as numpy rounds), or as they are."""
    return np.round(ratings) if rounded else np.round(ratings, 6)  # means of thirds differ in the last bit


def random_pairs(levels: np.ndarray, count: int, rng: np.random.Generator, known: np.ndarray | None = None) -> Pairs:
    """`count` pairs of captions of any pictures, drawn without replacement; fewer where there are no more.

    known: pairs that are not drawn again.
    """
    total = len(levels) * (len(levels) - 1) // 2
    _, sizes = np.unique(levels, return_counts=True)
    untied = total - int((sizes * (sizes - 1) // 2).sum())
    drawn = 0
    while True:
        # More than are needed, since ties and known pairs fall out; all of them where that is not enough.
        drawn = min(total, max(2 * drawn, 1000 + int(1.5 * (count + _length(known)) * total / max(1, untied))))
        found = first_untied(candidates(len(levels), drawn, rng, known), levels, count)
        if len(found.pairs) == count or drawn == total:
            return found


def candidates(captions: int, count: int, rng: np.random.Generator, known: np.ndarray | None = None) -> np.ndarray:
    """`count` different pairs of captions in random order, ties or not, less those in `known`; in no orientation."""
    total = captions * (captions - 1) // 2
    codes = rng.choice(total, size=min(count, total), replace=False)
    pairs = _decode(codes, captions)
    if _length(known) == 0:
        return pairs
    return pairs[~np.isin(_code(pairs, captions), _code(known, captions))]


def first_untied(pairs: np.ndarray, levels: np.ndarray, count: int) -> Pairs:
    """The first `count` of `pairs` that are no ties, oriented; `asked` counts the ties that stood before them too."""
    differ = np.flatnonzero(levels[pairs[:, 0]] != levels[pairs[:, 1]])[:count]
    asked = len(pairs) if len(differ) < count else int(differ[-1]) + 1 if count else 0
    chosen = pairs[differ]
    wrong = levels[chosen[:, 0]] < levels[chosen[:, 1]]
    return Pairs(np.where(wrong[:, None], chosen[:, ::-1], chosen), asked)


def same_image_pairs(
    levels: np.ndarray, pictures: np.ndarray, count: int | None = None, rng: np.random.Generator | None = None
) -> Pairs:
    """Pairs of captions of one picture: all of them, or `count` at random. pictures: the picture of each caption."""
    of_picture: dict[int, list[int]] = {}
    for caption, picture in enumerate(pictures.tolist()):
        of_picture.setdefault(picture, []).append(caption)
    both = [(a, b) for own in of_picture.values() for place, a in enumerate(own) for b in own[place + 1 :]]
    pairs = np.array(both, dtype=np.int64).reshape(-1, 2)
    if rng is not None:
        pairs = rng.permutation(pairs)
    return first_untied(pairs, levels, len(pairs) if count is None else count)


def uncertain_pairs(
    levels: np.ndarray, scores: np.ndarray, count: int, pool: int, rng: np.random.Generator, known: np.ndarray
) -> Pairs:
    """Active selection: of `pool` random candidates those whose two scores are nearest, whatever people said of them.

    Ties show only when people are asked, so they cost.
    """
    drawn = candidates(len(levels), pool, rng, known)
    gaps = np.abs(scores[drawn[:, 0]] - scores[drawn[:, 1]])
    return first_untied(drawn[np.argsort(gaps, kind="stable")], levels, count)


def hardest_pairs(
    levels: np.ndarray, scores: np.ndarray, count: int, pool: int, rng: np.random.Generator, known: np.ndarray
) -> Pairs:
    """Hard mining: of `pool` random pairs, judged already, those that the scores get most wrong. All of them cost."""
    drawn = random_pairs(levels, pool, rng, known)
    margins = scores[drawn.pairs[:, 0]] - scores[drawn.pairs[:, 1]]
    return Pairs(drawn.pairs[np.argsort(margins, kind="stable")[:count]], drawn.asked)


def _length(pairs: np.ndarray | None) -> int:
    return 0 if pairs is None else len(pairs)


def _code(pairs: np.ndarray | None, captions: int) -> np.ndarray:
    """A number for each pair, whichever stands first."""
    assert pairs is not None
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    return low * captions + high


def _decode(codes: np.ndarray, captions: int) -> np.ndarray:
    """The pairs (low, high) of places in the list of all pairs: (0, 1), (0, 2) …, (1, 2) …"""
    width = 2 * captions - 1
    low = ((width - np.sqrt(width * width - 8.0 * codes)) // 2).astype(np.int64)
    start = low * (width - low) // 2
    low -= start > codes  # the root may round up or down
    start = low * (width - low) // 2
    low += codes >= start + (captions - 1 - low)
    start = low * (width - low) // 2
    return np.stack([low, codes - start + low + 1], axis=1)
