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
