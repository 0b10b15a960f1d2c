"""CLIP-S, PAC-S and their reference forms as functions of cosines (aimagelab/pacscore, jmhessel/clipscore)."""

from torch import Tensor

MEANS = ("harmonic", "arithmetic")


def picture_score(cosines: Tensor, *, w: float, clamp: bool = True) -> Tensor:
    """w x max(cos, 0) of cosines [N] between pictures and captions; without `clamp` w x cos."""
    return w * (cosines.clamp(min=0.0) if clamp else cosines)


def reference_score(cosines: Tensor, *, w: float = 1.0, clamp: bool = False) -> Tensor:
    """The largest of the cosines [R] between a caption and its references, times w: a scalar.

    As published w is 1 and nothing is clamped; j-min/CLIP-Caption-Reward takes w = 2.5, aimagelab/DiCO clamps at 0.
    """
    best = cosines.max()
    return w * (best.clamp(min=0.0) if clamp else best)


def with_references(picture: Tensor, reference: Tensor, *, mean: str = "harmonic") -> Tensor:
    """The mean of both scores, 2 s t / (s + t) as published; 0 where s + t is 0.

    Raises ValueError for a mean not in `MEANS`.
    """
    if mean not in MEANS:
        raise ValueError(f"mean is {mean!r}; give one of {', '.join(MEANS)}")
    total = picture + reference
    if mean == "arithmetic":
        return total / 2
    return (2 * picture * reference / total).where(total != 0, 0.0)
