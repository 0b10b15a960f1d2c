"""Retrieval between pictures and captions: how often what belongs to the query is among the first K found."""

import torch
from torch import Tensor

CUTS = (1, 5, 10)
_QUERIES_AT_ONCE = 1024


def retrieval(pictures: Tensor, captions: Tensor, picture_of: Tensor) -> dict[str, float]:
    """R@1, R@5 and R@10 in percent, `image_to_text_r<K>` and `text_to_image_r<K>`, and `r1`, the mean of both R@1.

    pictures `[V, D]` and captions `[C, D]` are unit vectors; `picture_of` `[C]` is the row of each caption's picture. A
    picture finds if any of its captions is among the first K. Of equal cosines each order counts alike, so that
    vectors which are all the same score as chance does. Raises ValueError for a picture without captions.
    """
    without = set(range(len(pictures))) - set(picture_of.tolist())
    if without:
        raise ValueError(f"{len(without)} of {len(pictures)} pictures have no captions, row {min(without)} among them")
    own_of = [torch.nonzero(picture_of == v).flatten() for v in range(len(pictures))]
    found = {"image_to_text": torch.zeros(len(CUTS)), "text_to_image": torch.zeros(len(CUTS))}
    for start in range(0, len(pictures), _QUERIES_AT_ONCE):
        cosines = pictures[start : start + _QUERIES_AT_ONCE] @ captions.T
        for row, own in zip(cosines, own_of[start:], strict=False):
            others = torch.ones(len(row), dtype=torch.bool, device=row.device)
            others[own] = False
            found["image_to_text"] += _hits(row[own].max(), row[others])
    for start in range(0, len(captions), _QUERIES_AT_ONCE):
        rows = captions[start : start + _QUERIES_AT_ONCE] @ pictures.T
        for caption, row in enumerate(rows, start):
            others = torch.ones(len(row), dtype=torch.bool, device=row.device)
            others[picture_of[caption]] = False
            found["text_to_image"] += _hits(row[picture_of[caption]], row[others])
    queries = {"image_to_text": len(pictures), "text_to_image": len(captions)}
    measured = {
        f"{way}_r{cut}": 100 * float(hits) / queries[way]
        for way, own in found.items()
        for cut, hits in zip(CUTS, own, strict=True)
    }
    return {**measured, "r1": (measured["image_to_text_r1"] + measured["text_to_image_r1"]) / 2}


def _hits(own: Tensor, others: Tensor) -> Tensor:
    """The chance to be among the first K, for each K, where ties are broken at random."""
    better, equal = int((others > own).sum()), int((others == own).sum())
    return torch.tensor([min(max((cut - better) / (equal + 1), 0.0), 1.0) for cut in CUTS])
