"""Cross-entropy: the mean negative log-probability of reference captions."""

from torch import Tensor

from rlcap.objectives.reduction import Total, reduce_tokens


def cross_entropy(
    log_probs: Tensor,
    mask: Tensor,
    *,
    smoothing: Tensor | None = None,
    epsilon: float = 0.0,
    normalization: str = "token",
) -> Total:
    """Negative log-likelihood of the captions, with label smoothing when `epsilon` > 0.

    log_probs `[B, K, L]`: log-probability of each token. mask `[B, K, L]`: True on the tokens that count.
    smoothing `[B, K, L]`: mean over the vocabulary of the log-probabilities at each position; needed when
    `epsilon` > 0, the share of probability spread evenly over the vocabulary (Szegedy et al. 2016, section 7).
    """
    losses = -log_probs
    if epsilon:
        if smoothing is None:
            raise ValueError("label smoothing needs the captioner's smoothing term, and none was given")
        losses = (1 - epsilon) * losses - epsilon * smoothing
    return reduce_tokens(losses, mask, normalization)
