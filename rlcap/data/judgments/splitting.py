"""Judgments in training, validation and test, no two of which share a picture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlcap.data.judgments.judged import Judgments

SPLITS = ("train", "val", "test")


def split_by_picture(
    judgments: Judgments, sizes: Sequence[float], seed: int, needed: Sequence[str] = SPLITS
) -> Judgments:
    """The judgments with `split` set such that all captions of a picture are in one split.

    sizes: of train, val and test, in pictures or, where none is above 1, as shares. Pictures beyond the sizes are left
    out. Where the source says splits itself, these stay, and rows without one train. Raises ValueError where a picture
    stands in two splits, one of the `needed` splits has no row, or there are fewer pictures than asked for.
    """
    if any(caption.split is not None for caption in judgments.captions):
        named = [replace(caption, split=caption.split or "train") for caption in judgments.captions]
        return _disjoint(Judgments(named, judgments.preferences), needed)
    ids = sorted({caption.image_id for caption in judgments.captions})
    counts = [round(size * len(ids)) for size in sizes] if max(sizes) <= 1 else [int(size) for size in sizes]
    if sum(counts) > len(ids) or min(counts) < 1:
        raise ValueError(
            f"split is {list(sizes)}: {' + '.join(map(str, counts))} pictures; there are {len(ids)}, and each split "
            "needs one"
        )
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    names = [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    split_of = {ids[place]: name for place, name in zip(shuffled, names, strict=False)}
    return Judgments(
        [replace(caption, split=split_of.get(caption.image_id)) for caption in judgments.captions],
        judgments.preferences,
    )


def _disjoint(judgments: Judgments, needed: Sequence[str]) -> Judgments:
    splits: dict[str, set[str]] = {}
    for caption in judgments.captions:
        splits.setdefault(caption.image_id, set()).add(str(caption.split))
    torn = [image_id for image_id, names in splits.items() if len(names) > 1]
    if torn:
        raise ValueError(
            f"{len(torn)} pictures stand in more than one split, such as {torn[0]} in "
            f"{' and '.join(sorted(splits[torn[0]]))}: what is learned on a picture would be tested on it"
        )
    there = {name for names in splits.values() for name in names}
    absent = sorted(set(needed) - there)
    if absent:
        raise ValueError(
            f"no row is of the split {', '.join(absent)}; there are {', '.join(sorted(there))}. Leave `split` out of "
            "all rows to have one made"
        )
    return judgments
