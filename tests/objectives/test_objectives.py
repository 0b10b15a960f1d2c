"""The objectives against closed forms."""

import math

import pytest
import torch

from rlcap.objectives.advantages import advantages
from rlcap.objectives.cross_entropy import cross_entropy
from rlcap.objectives.policy_gradient import kl_penalty, policy_gradient
from rlcap.objectives.reduction import reduce_tokens

REWARDS = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 0.0, 0.0]])


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    result = advantages(REWARDS, "leave_one_out")
    assert result[0].tolist() == pytest.approx([1 - 11 / 3, 2 - 10 / 3, 3 - 9 / 3, 6 - 6 / 3])
    assert result.sum(-1).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert result[1].abs().max() == 0


def test_leave_one_out_is_the_centred_reward_times_k_over_k_minus_one() -> None:
    rewards = torch.randn(7, 5)
    expected = 1.25 * (rewards - rewards.mean(-1, keepdim=True))
    torch.testing.assert_close(advantages(rewards, "leave_one_out"), expected)


def test_greedy_compares_with_the_greedy_caption() -> None:
    result = advantages(REWARDS, "greedy", greedy_rewards=torch.tensor([2.0, -1.0]))
    assert result.tolist() == [[-1, 0, 1, 4], [1, 1, 1, 1]]
    with pytest.raises(ValueError, match="greedy"):
        advantages(REWARDS, "greedy")


def test_group_with_and_without_the_standard_deviation() -> None:
    plain = advantages(REWARDS, "group")
    assert plain[0].tolist() == [-2, -1, 0, 3]
    assert torch.equal(plain, advantages(REWARDS, "beam_mean"))
    std = math.sqrt((4 + 1 + 0 + 9) / 3)
    assert advantages(REWARDS, "group", scale=True)[0].tolist() == pytest.approx(
        [x / (std + 1e-4) for x in (-2, -1, 0, 3)]
    )
    assert torch.isfinite(advantages(REWARDS, "group", scale=True)).all()


def test_clipping_and_captions_without_a_reward() -> None:
    rewards = torch.tensor([[1.0, float("nan"), 3.0]])
    result = advantages(rewards, "leave_one_out")
    assert result[0, [0, 2]].tolist() == [-2, 2]
    assert result[0, 1].isnan()
    assert advantages(REWARDS, "group", clip=1.5)[0].tolist() == [-1.5, -1, 0, 1.5]


@pytest.mark.parametrize("baseline", ["leave_one_out", "group", "beam_mean"])
def test_one_sample_has_nothing_to_be_compared_with(baseline: str) -> None:
    with pytest.raises(ValueError, match="num_samples"):
        advantages(torch.ones(2, 1), baseline)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="baseline is 'median'"):
        advantages(REWARDS, "median")
    with pytest.raises(ValueError, match="loss_normalization is 'batch'"):
        reduce_tokens(torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool), "batch")


def test_policy_gradient_is_reinforce() -> None:
    """The gradient with respect to the logits is A (softmax - onehot), the textbook form, over the number of tokens."""
    logits = torch.randn(2, 3, 4, 6, dtype=torch.double, requires_grad=True)
    tokens = torch.randint(6, (2, 3, 4))
    mask = torch.tensor([4, 2, 1, 3, 4, 0])[:, None].gt(torch.arange(4)).view(2, 3, 4)
    advantage = torch.randn(2, 3, dtype=torch.double)
    log_probs = logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
    loss = policy_gradient(log_probs, mask, advantage)
    loss.mean.backward()
    onehot = torch.nn.functional.one_hot(tokens, 6)
    expected = advantage[..., None, None] * (logits.detach().softmax(-1) - onehot) * mask[..., None] / mask.sum()
    torch.testing.assert_close(logits.grad, expected)


def test_an_unscored_caption_counts_for_nothing() -> None:
    log_probs = torch.full((1, 2, 3), -1.0)
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    result = policy_gradient(log_probs, mask, torch.tensor([[2.0, float("nan")]]))
    assert (result.total.item(), result.count.item()) == (6.0, 3.0)


def test_token_and_sequence_normalisation() -> None:
    losses = torch.tensor([[[1.0, 1.0, 1.0, 1.0], [5.0, 9.0, 9.0, 9.0]]])
    mask = torch.tensor([[[True] * 4, [True, False, False, False]]])
    assert reduce_tokens(losses, mask, "token").mean.item() == pytest.approx(9 / 5)
    assert reduce_tokens(losses, mask, "sequence").mean.item() == pytest.approx((1 + 5) / 2)


def test_cross_entropy_is_torchs_own() -> None:
    logits = torch.randn(2, 3, 4, 6, dtype=torch.double)
    tokens = torch.randint(6, (2, 3, 4))
    mask = torch.rand(2, 3, 4) > 0.3
    log_softmax = logits.log_softmax(-1)
    log_probs, smoothing = log_softmax.gather(-1, tokens[..., None]).squeeze(-1), log_softmax.mean(-1)
    for epsilon in (0.0, 0.1):
        ours = cross_entropy(log_probs, mask, smoothing=smoothing, epsilon=epsilon).mean
        theirs = torch.nn.functional.cross_entropy(logits[mask], tokens[mask], label_smoothing=epsilon)
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="smoothing"):
        cross_entropy(log_probs, mask, epsilon=0.1)


def test_the_kl_estimate_is_unbiased_and_zero_for_the_same_model() -> None:
    policy, reference = torch.randn(8).log_softmax(-1), torch.randn(8).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    mask = torch.ones(1, 1, 8, dtype=torch.bool)
    per_token = torch.stack(
        [
            kl_penalty(p.view(1, 1, 1), q.view(1, 1, 1), mask[..., :1]).total
            for p, q in zip(policy, reference, strict=True)
        ]
    )
    torch.testing.assert_close((policy.exp() * per_token).sum(), exact)
    assert kl_penalty(policy.view(1, 1, 8), policy.view(1, 1, 8), mask).total == 0
