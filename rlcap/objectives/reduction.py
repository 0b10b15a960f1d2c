"""How an objective is averaged: a total and a count, so that one mean is taken over micro-batches and ranks."""

from dataclasses import dataclass

from torch import Tensor

NORMALIZATIONS = ("token", "sequence")


@dataclass(frozen=True)
class Total:
    """A sum of losses and the number of things summed; `total / count` is the mean, whatever was gathered."""

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean; 0 where nothing was counted."""
        return self.total / self.count.clamp(min=1)


def reduce_tokens(losses: Tensor, mask: Tensor, normalization: str = "token") -> Total:
    """Sums per-token losses `[B, K, L]` where `mask` is True.

    `token`: every token weighs the same, as in self-critical.pytorch (a long caption weighs more).
    `sequence`: every caption weighs the same, its tokens averaged first, as in the M2 Transformer's training.
    Raises ValueError for another `normalization`.
    """
    weights, count = mask.to(losses.dtype), counted(mask, normalization).to(losses.dtype)
    if normalization == "token":
        return Total((losses * weights).sum(), count)
    means = (losses * weights).sum(-1) / weights.sum(-1).clamp(min=1)
    return Total(means.sum(), count)


def counted(mask: Tensor, normalization: str = "token") -> Tensor:
    """What `reduce_tokens` divides by: the tokens of a mask `[B, K, L]`, or its captions that have some."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"loss_normalization is {normalization!r}; it can be {' or '.join(map(repr, NORMALIZATIONS))}")
    return mask.sum() if normalization == "token" else mask.any(-1).sum()
