"""Advantages: what a caption's reward is compared with before it is reinforced.

Every function takes rewards `[B, K]` of K captions a picture, NaN where a caption was not scored, and returns
advantages `[B, K]`, NaN at the same places.
"""

from torch import Tensor

BASELINES = ("greedy", "leave_one_out", "group", "beam_mean")


def advantages(
    rewards: Tensor,
    baseline: str,
    *,
    greedy_rewards: Tensor | None = None,
    scale: bool = False,
    clip: float | None = None,
) -> Tensor:
    """Rewards `[B, K]` minus a baseline, optionally divided by the group's standard deviation and clipped to ±`clip`.

    greedy         the reward of the picture's own greedy caption `greedy_rewards [B]` (Rennie et al. 2017, SCST)
    leave_one_out  the mean of the other K - 1 samples (Luo 2020, "A better variant of self-critical sequence training")
    group          the mean of all K samples (GRPO, Shao et al. 2024); `scale` divides by their standard deviation
    beam_mean      the same mean, over K beams instead of samples (Cornia et al. 2020, M2 Transformer); biased, since
                   beams are no samples of the policy

    Raises ValueError for an unknown baseline, for `greedy` without greedy rewards, and where K is too small for one.
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline is {baseline!r}; it can be one of {', '.join(BASELINES)}")
    if baseline == "greedy":
        if greedy_rewards is None:
            raise ValueError("the greedy baseline needs the rewards of the greedy captions")
        result = rewards - greedy_rewards[:, None]
    else:
        if rewards.shape[1] < 2:
            raise ValueError(
                f"the baseline {baseline} compares the samples of a picture: num_samples must be 2 or more"
            )
        result = leave_one_out(rewards) if baseline == "leave_one_out" else centred(rewards)
    if scale:
        result = result / (group_std(rewards)[:, None] + 1e-4)
    return result if clip is None else result.clamp(-clip, clip)


def leave_one_out(rewards: Tensor) -> Tensor:
    """`r_i - mean_{j != i} r_j`, which is `n / (n - 1) (r_i - mean)` for n scored captions; 0 where n is 1."""
    n = (~rewards.isnan()).sum(-1, keepdim=True)
    return centred(rewards) * n / (n - 1).clamp(min=1)


def centred(rewards: Tensor) -> Tensor:
    """`r_i - mean`, the mean over the picture's scored captions."""
    return rewards - rewards.nanmean(-1, keepdim=True)


def group_std(rewards: Tensor) -> Tensor:
    """The unbiased standard deviation of each picture's scored captions, `[B]`, as TRL takes it; 0 for one or none."""
    n = (~rewards.isnan()).sum(-1)
    return (centred(rewards).square().nansum(-1) / (n - 1).clamp(min=1)).sqrt()
