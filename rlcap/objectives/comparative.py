"""Objectives of a scorer of captions: of two captions the better one higher, or every caption at its rating.

Bradley-Terry on pairs is `ranking.bradley_terry` with K = 2. After arXiv 2602.00381 and its code
(`pairwise_model.py`, `regression_model.py`).
"""

import torch
from torch import Tensor

from rlcap.objectives.reduction import Total


def hinge(better: Tensor, worse: Tensor, margin: float = 1.0) -> Total:
    """`max(0, margin - (f(better) - f(worse)))` of the scores `[P]` of pairs, and how many there are."""
    losses = (margin - (better - worse)).clamp(min=0)
    return Total(losses.sum(), _count(losses))


def absolute_error(scores: Tensor, ratings: Tensor) -> Total:
    """`|score - rating|`, both `[N]`."""
    losses = (scores - ratings).abs()
    return Total(losses.sum(), _count(losses))


def squared_error(scores: Tensor, ratings: Tensor) -> Total:
    """`(score - rating)^2`, both `[N]`."""
    losses = (scores - ratings).square()
    return Total(losses.sum(), _count(losses))


def ranking_penalty(scores: Tensor, ratings: Tensor, *, smooth: bool = False) -> Tensor:
    """`mean over i, j of (sign(y_i - y_j) - sign(s_i - s_j))^2` of scores and ratings `[N]`; in [0, 4].

    The published penalty, on all ordered pairs of the batch, the caption with itself included. Its gradient is zero
    everywhere: it shifts the loss that early stopping looks at, and teaches nothing. smooth: tanh in place of the
    scores' sign, which has a gradient.
    """
    score_gaps = scores[:, None] - scores[None, :]
    order = torch.tanh(score_gaps) if smooth else torch.sign(score_gaps)
    return (torch.sign(ratings[:, None] - ratings[None, :]) - order).square().mean()


def _count(losses: Tensor) -> Tensor:
    return torch.tensor(losses.numel(), device=losses.device)
