"""The reduction over the vocabulary, in fp32: log-probability, entropy and the label-smoothing term of each token."""

from collections.abc import Callable

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
    normaliser = logits.logsumexp(dim=-1)
    log_probs = logits.gather(-1, targets[:, None]).squeeze(-1) - normaliser
    smoothing = logits.mean(dim=-1) - normaliser
    with torch.no_grad():
        entropy = normaliser - ((logits - normaliser[:, None]).exp() * logits).sum(dim=-1)
    return log_probs, entropy, smoothing
