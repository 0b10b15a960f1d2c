"""The reduction over the vocabulary, in fp32: log-probability, entropy and the label-smoothing term of each token."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGIT_BYTES = 256 * 2**20
"""Above this many bytes of fp32 logits the tokens are taken in chunks whose logits are computed again in backward."""


def reduce_vocabulary(
    hidden: Tensor,
    targets: Tensor,
    head: Callable[[Tensor], Tensor],
    vocab_size: int,
    temperature: float = 1.0,
    max_bytes: int = LOGIT_BYTES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log p(target), entropy (detached) and mean over the vocabulary of log p, each [T] in fp32.

    hidden [T, D] predict targets [T]; p = softmax(head(hidden) / temperature). Raises ValueError on temperature <= 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    chunk = max(max_bytes // (4 * vocab_size), 1)
    if len(targets) <= chunk:
        return _reduce(hidden, targets, head, temperature)
    parts = [
        checkpoint(_reduce, h, t, head, temperature, use_reentrant=False)
        for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    log_probs, entropy, smoothing = (torch.cat(part) for part in zip(*parts, strict=True))
    return log_probs, entropy, smoothing


def _reduce(
    hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    logits = head(hidden).float()
    if temperature != 1.0:
        logits = logits / temperature
    return _VocabularyReduction.apply(logits, targets)  # type: ignore[no-any-return]


class _VocabularyReduction(torch.autograd.Function):
    """The three reductions in as few passes over [T, V] as they take: on a CPU these passes cost as much as the head.

    Keeps the probabilities alone for backward, which turns them into the gradient in place.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        highest = logits.amax(dim=-1, keepdim=True)
        probabilities = (logits - highest).exp_()
        total = probabilities.sum(dim=-1, keepdim=True)
        probabilities.div_(total)
        normaliser = (highest + total.log()).squeeze(-1)
        log_probs = logits.gather(-1, targets[:, None]).squeeze(-1) - normaliser
        smoothing = logits.mean(dim=-1) - normaliser
        entropy = normaliser - torch.linalg.vecdot(probabilities, logits)
        ctx.save_for_backward(probabilities, targets)
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy, smoothing

    @staticmethod
    def backward(ctx: Any, log_probs: Tensor, entropy: Tensor, smoothing: Tensor) -> tuple[Tensor, None]:
        probabilities, targets = ctx.saved_tensors
        gradient = probabilities.mul_(-(log_probs + smoothing)[:, None])
        gradient.scatter_add_(-1, targets[:, None], log_probs[:, None])
        if smoothing.any():
            gradient.add_(smoothing[:, None] / gradient.shape[-1])
        return gradient, None
