"""Ranking objectives: K captions of a picture, best first, are to be scored in that order.

The score of a caption is its implicit reward `beta (log policy - log reference)` (Rafailov et al. 2023, DPO). Every
function takes scores `[B, K]`, best first, and a caption_mask `[B, K]`, True on captions that exist, which stand in
front; it returns a sum over pictures and the number of pictures with at least two captions. Nothing flows through the
order itself.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlcap.objectives.reduction import Total

PAIRS = ("all", "adjacent", "best_worst")


def implicit_rewards(
    log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor, beta: float, *, length_normalized: bool = False
) -> Tensor:
    """`beta (log policy - log reference)` of each caption `[B, K]`, of token log-probabilities `[B, K, L]`.

    Summed over the tokens of `mask`, as in DPO, or averaged over them. Gradient flows through `log_probs` only.
    """
    weights = mask.to(log_probs.dtype)
    ratios = ((log_probs - reference_log_probs.detach()) * weights).sum(-1)
    return beta * (ratios / weights.sum(-1).clamp(min=1) if length_normalized else ratios)


def best_first(scores: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Scores `[B, K]` of captions in the order of their rewards `[B, K]`, best first, and their caption_mask.

    Of captions with equal rewards the first stays, the others are left out, since a ranking has no ties; so is what was
    not scored (NaN).
    """
    ordered, index = torch.nan_to_num(rewards, nan=-torch.inf).sort(dim=-1, descending=True, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] < ordered[:, :-1]
    new &= ordered > -torch.inf
    # Those that are left out go behind the others, which keep their order.
    kept, front = new.sort(dim=-1, descending=True, stable=True)
    return scores.gather(-1, index.gather(-1, front)), kept


def plackett_luce(scores: Tensor, caption_mask: Tensor, *, label_smoothing: float = 0.0) -> Total:
    """`-sum_k [s_k - logsumexp_{j >= k} s_j]`: the likelihood of the order (Plackett 1975; listwise DPO, appendix A.3).

    K = 2 is DPO. label_smoothing: the probability that the order is the reverse one (for K = 2, that of cDPO).
    """
    loss = _negative_log_likelihood(scores, caption_mask)
    if label_smoothing:
        reverse = _reversed(scores, caption_mask)
        loss = (1 - label_smoothing) * loss + label_smoothing * _negative_log_likelihood(reverse, caption_mask)
    return Total(loss.sum(), ranked(caption_mask))


def bradley_terry(scores: Tensor, caption_mask: Tensor, *, pairs: str = "all", label_smoothing: float = 0.0) -> Total:
    """The mean over pairs of `-log sigmoid(s_better - s_worse)`: DPO on the pairs of a chain.

    pairs: `all` of them, `adjacent` ones, or `best_worst` alone. label_smoothing: the probability that a pair is the
    other way round. Raises ValueError for other pairs.
    """
    if pairs not in PAIRS:
        raise ValueError(f"pairs is {pairs!r}; it can be one of {', '.join(PAIRS)}")
    gaps = scores[:, :, None] - scores[:, None, :]
    losses = -(1 - label_smoothing) * logsigmoid(gaps) - label_smoothing * logsigmoid(-gaps)
    chosen = _pairs(caption_mask, pairs)
    count = chosen.sum((1, 2))
    return Total(((losses * chosen).sum((1, 2)) / count.clamp(min=1)).sum(), ranked(caption_mask))


def lambda_loss(
    scores: Tensor, caption_mask: Tensor, *, relevance: Tensor | None = None, label_smoothing: float = 0.0
) -> Total:
    """`-sum |G_i - G_j| |1/D(t_i) - 1/D(t_j)| log sigmoid(s_i - s_j)` over pairs i before j (Liu et al. 2024, LiPO).

    G = 2^relevance - 1, D(t) = log(1 + t), t the rank of a caption under the present scores, from 1, without gradient.
    relevance: `[B, K]`, falling; None: the number of captions behind it.
    """
    number = caption_mask.sum(-1, keepdim=True)
    if relevance is None:
        relevance = (number - 1 - torch.arange(scores.shape[1], device=scores.device)).clamp(min=0).to(scores.dtype)
    gains = 2.0**relevance - 1
    present = scores.detach().masked_fill(~caption_mask, -torch.inf)
    ranks = present.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) + 1
    discounts = 1 / torch.log1p(ranks.to(scores.dtype))
    weights = (gains[:, :, None] - gains[:, None, :]).abs() * (discounts[:, :, None] - discounts[:, None, :]).abs()
    gaps = scores[:, :, None] - scores[:, None, :]
    losses = -(1 - label_smoothing) * logsigmoid(gaps) - label_smoothing * logsigmoid(-gaps)
    return Total((weights * losses * _pairs(caption_mask, "all")).sum(), ranked(caption_mask))


def _negative_log_likelihood(scores: Tensor, caption_mask: Tensor) -> Tensor:
    # Finite, so that nothing becomes NaN on the way back; exp of it is 0.
    present = scores.masked_fill(~caption_mask, torch.finfo(scores.dtype).min / 4)
    behind = present.flip(-1).logcumsumexp(-1).flip(-1)
    # The last caption has nothing behind it: its term is 0.
    return ((behind - present) * caption_mask).sum(-1)


def _reversed(scores: Tensor, caption_mask: Tensor) -> Tensor:
    number = caption_mask.sum(-1, keepdim=True)
    index = (number - 1 - torch.arange(scores.shape[1], device=scores.device)).clamp(min=0)
    return scores.gather(-1, index)


def _pairs(caption_mask: Tensor, pairs: str) -> Tensor:
    """True at `[b, i, j]` where caption i stands before caption j and the pair is chosen."""
    size = caption_mask.shape[1]
    both = caption_mask[:, :, None] & caption_mask[:, None, :]
    before = torch.ones(size, size, dtype=torch.bool, device=caption_mask.device).triu(1)
    if pairs == "adjacent":
        before = before.tril(1)
    chosen = both & before
    if pairs == "best_worst":
        last = torch.arange(size, device=caption_mask.device) == caption_mask.sum(-1, keepdim=True) - 1
        chosen = chosen & last[:, None, :]
        chosen[:, 1:] = False
    return chosen


def ranked(caption_mask: Tensor) -> Tensor:
    """The number of pictures with at least two captions, which these objectives count."""
    return (caption_mask.sum(-1) > 1).sum()
