"""The policy gradient of SCST: captions are made more likely by how much better they were than the baseline."""

import torch
from torch import Tensor

from rlcap.objectives.reduction import Total, reduce_tokens


def policy_gradient(log_probs: Tensor, mask: Tensor, advantages: Tensor, normalization: str = "token") -> Total:
    """`-A log p`, summed over the tokens of sampled captions (REINFORCE; Rennie et al. 2017, equation 7).

    log_probs `[B, K, L]` under the policy that sampled, mask `[B, K, L]` with the EOS step inside, advantages `[B, K]`
    without gradient. A caption whose advantage is NaN (not scored) is left out of the sum and of the count.
    """
    scored = ~advantages.isnan()
    weights = torch.nan_to_num(advantages).detach()[..., None]
    return reduce_tokens(-weights * log_probs, mask & scored[..., None], normalization)


def kl_penalty(log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor, normalization: str = "token") -> Total:
    """An estimate of KL(policy || reference) on the policy's own samples: `exp(d) - d - 1`, d = log ref - log policy.

    Unbiased for samples of the policy and never negative (Schulman 2020, "Approximating KL divergence", k3); TRL's
    estimator and TRL's use of it: as a loss on fixed samples, its expected gradient is that of KL(reference || policy).
    Both log-probabilities `[B, K, L]`; gradient flows through `log_probs` only.
    """
    difference = reference_log_probs.detach() - log_probs
    return reduce_tokens(torch.expm1(difference) - difference, mask, normalization)


def clipped_policy_gradient(
    log_probs: Tensor,
    sampling_log_probs: Tensor,
    mask: Tensor,
    advantages: Tensor,
    *,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    normalization: str = "token",
) -> Total:
    """`-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)` over tokens, r = policy / the policy that sampled.

    For several updates on the same samples (PPO, Schulman et al. 2017, equation 7; per token as in GRPO, Shao et al.
    2024; another upper bound as in DAPO, Yu et al. 2025). log_probs and sampling_log_probs `[B, K, L]`, the second
    without gradient; at r = 1 the gradient is that of `policy_gradient`. A caption whose advantage is NaN is left out.
    """
    scored = ~advantages.isnan()
    weights = torch.nan_to_num(advantages).detach()[..., None]
    ratio = _ratio(log_probs, sampling_log_probs, mask)
    clipped = ratio.clamp(1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high))
    return reduce_tokens(-torch.minimum(ratio * weights, clipped * weights), mask & scored[..., None], normalization)


def clipped_share(
    log_probs: Tensor,
    sampling_log_probs: Tensor,
    mask: Tensor,
    advantages: Tensor,
    *,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
) -> Total:
    """Tokens that `clipped_policy_gradient` gives no gradient, since the policy has moved enough their way."""
    ratio = _ratio(log_probs.detach(), sampling_log_probs, mask)
    rise, fall = advantages[..., None] > 0, advantages[..., None] < 0
    held = rise & (ratio > 1 + (epsilon if epsilon_high is None else epsilon_high)) | fall & (ratio < 1 - epsilon)
    return Total((held & mask).sum(), mask.sum())


def _ratio(log_probs: Tensor, sampling_log_probs: Tensor, mask: Tensor) -> Tensor:
    return (log_probs - sampling_log_probs.detach()).masked_fill(~mask, 0).exp()
