"""Ranking objectives against their definitions written out, in double precision."""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlcap.objectives.dico import dico
from rlcap.objectives.policy_gradient import clipped_policy_gradient, clipped_share, policy_gradient
from rlcap.objectives.ranking import best_first, bradley_terry, implicit_rewards, lambda_loss, plackett_luce

torch.manual_seed(0)
RAGGED = torch.tensor([[True] * 4, [True, True, True, False], [True, True, False, False], [True, False, False, False]])
SCORES = torch.randn(4, 4, dtype=torch.float64)


def chains() -> list[list[float]]:
    return [SCORES[b, : int(RAGGED[b].sum())].tolist() for b in range(4)]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_plackett_luce_is_the_likelihood_of_the_order() -> None:
    expected = 0.0
    for chain in chains():
        for k in range(len(chain)):
            expected -= chain[k] - math.log(sum(math.exp(s) for s in chain[k:]))
    result = plackett_luce(SCORES, RAGGED)
    assert result.total.item() == pytest.approx(expected, rel=1e-12)
    assert result.count == 3


def test_plackett_luce_of_two_is_dpo() -> None:
    log_probs, reference = torch.randn(2, 5, 2, 6, dtype=torch.float64).unbind(0)
    mask = torch.rand(5, 2, 6) < 0.7
    scores = implicit_rewards(log_probs, reference, mask, 0.1)
    ratios = ((log_probs - reference) * mask).sum(-1)
    dpo = -logsigmoid(0.1 * (ratios[:, 0] - ratios[:, 1]))
    pair = torch.ones(5, 2, dtype=torch.bool)
    assert (plackett_luce(scores, pair).mean - dpo.mean()).abs() < 1e-12
    smoothed = 0.9 * dpo - 0.1 * logsigmoid(-0.1 * (ratios[:, 0] - ratios[:, 1]))
    assert (plackett_luce(scores, pair, label_smoothing=0.1).mean - smoothed.mean()).abs() < 1e-12
    for pairs in ("all", "adjacent", "best_worst"):
        assert (bradley_terry(scores, pair, pairs=pairs, label_smoothing=0.1).mean - smoothed.mean()).abs() < 1e-12


def test_length_normalised_scores_are_means() -> None:
    log_probs, reference = torch.randn(2, 1, 2, 3, dtype=torch.float64).unbind(0)
    mask = torch.tensor([[[True, True, False], [True, True, True]]])
    found = implicit_rewards(log_probs, reference, mask, 2.0, length_normalized=True)
    gap = log_probs - reference
    assert found.tolist() == [pytest.approx([2 * gap[0, 0, :2].mean().item(), 2 * gap[0, 1].mean().item()])]


@pytest.mark.parametrize("pairs", ["all", "adjacent", "best_worst"])
def test_bradley_terry_averages_over_the_pairs_of_a_chain(pairs: str) -> None:
    expected = 0.0
    for chain in chains():
        chosen = {
            "all": list(combinations(range(len(chain)), 2)),
            "adjacent": [(i, i + 1) for i in range(len(chain) - 1)],
            "best_worst": [(0, len(chain) - 1)] if len(chain) > 1 else [],
        }[pairs]
        expected -= sum(log_sigmoid(chain[i] - chain[j]) for i, j in chosen) / max(len(chosen), 1)
    result = bradley_terry(SCORES, RAGGED, pairs=pairs)
    assert result.total.item() == pytest.approx(expected, rel=1e-12)
    assert result.count == 3
    with pytest.raises(ValueError, match="pairs is 'some'"):
        bradley_terry(SCORES, RAGGED, pairs="some")


def test_lambda_loss_weighs_pairs_by_what_a_swap_would_cost() -> None:
    expected = 0.0
    for chain in chains():
        order = sorted(range(len(chain)), key=lambda i: -chain[i])
        rank = {i: place + 1 for place, i in enumerate(order)}
        for i, j in combinations(range(len(chain)), 2):
            gain = abs(2 ** (len(chain) - 1 - i) - 2 ** (len(chain) - 1 - j))
            discount = abs(1 / math.log(1 + rank[i]) - 1 / math.log(1 + rank[j]))
            expected -= gain * discount * log_sigmoid(chain[i] - chain[j])
    assert lambda_loss(SCORES, RAGGED).total.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s: plackett_luce(s, RAGGED, label_smoothing=0.1).total,
        lambda s: bradley_terry(s, RAGGED, label_smoothing=0.1).total,
        lambda s: bradley_terry(s, RAGGED, pairs="adjacent", label_smoothing=0.1).total,
        lambda s: bradley_terry(s, RAGGED, pairs="best_worst").total,
        lambda s: lambda_loss(s, RAGGED).total,
        lambda s: lambda_loss(s, RAGGED, label_smoothing=0.1).total,
        lambda s: dico(s, torch.tensor([[0.1, 0.4, 0.3, 0.2]] * 4), 5.0).total,
    ],
)
def test_gradients_in_double_precision(loss) -> None:
    scores = SCORES.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (scores,))
    (gradient,) = torch.autograd.grad(loss(scores), scores)
    assert gradient[0, [0, 3]].abs().min() > 0  # of the best and the worst, which all of them compare
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("length_normalized", [False, True])
def test_gradients_of_implicit_rewards_in_double_precision(length_normalized: bool) -> None:
    log_probs, reference = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True).unbind(0)
    mask = torch.arange(4) < torch.tensor([[4, 2, 3], [1, 3, 0]])[..., None]

    def rewards(values: Tensor) -> Tensor:
        return implicit_rewards(values, reference, mask, 0.3, length_normalized=length_normalized)

    assert torch.autograd.gradcheck(rewards, (log_probs,))
    gradient, none = torch.autograd.grad(rewards(log_probs).sum(), (log_probs, reference), allow_unused=True)
    lengths = mask.sum(-1, keepdim=True).clamp(min=1)
    assert gradient.allclose(0.3 * mask.double() / (lengths if length_normalized else 1))
    assert none is None


def test_what_is_not_there_changes_nothing() -> None:
    changed = SCORES.masked_fill(~RAGGED, 1e6)
    for loss in (plackett_luce, bradley_terry, lambda_loss):
        assert loss(changed, RAGGED).total == loss(SCORES, RAGGED).total


def test_samples_are_ordered_by_reward_without_ties() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    rewards = torch.tensor([[0.5, 0.9, 0.5, 0.7], [float("nan"), 0.1, 0.2, float("nan")]])
    ordered, mask = best_first(scores, rewards)
    assert ordered[0, :3].tolist() == [2, 4, 1]
    assert ordered[1, :2].tolist() == [3, 2]
    assert mask.tolist() == [[True, True, True, False], [True, True, False, False]]


def test_dico_is_its_definition() -> None:
    rewards = torch.tensor([[0.30, 0.31, 0.305, 0.29]], dtype=torch.float64)
    score = SCORES[0]
    weights = [math.exp(300 * (0.31 - r)) for r in (0.30, 0.305, 0.29)]
    losers = [w / sum(weights) * s for w, s in zip(weights, score[[0, 2, 3]].tolist(), strict=True)]
    result = dico(SCORES[:1], rewards)
    assert result.total.item() == pytest.approx(-log_sigmoid(score[1].item() - sum(losers)), rel=1e-9)
    assert result.count == 1
    nothing = dico(SCORES[:1], torch.tensor([[float("nan"), 1.0, float("nan"), float("nan")]]))
    assert nothing.total == 0
    assert nothing.count == 0


def test_clipped_ratio_stops_where_the_policy_has_moved_enough() -> None:
    old = torch.full((1, 2, 3), -1.0, dtype=torch.float64)
    ratios = torch.tensor([[[1.1, 1.5, 0.5], [0.5, 0.9, 1.5]]], dtype=torch.float64)
    log_probs = (old + ratios.log()).requires_grad_(True)
    mask = torch.ones(1, 2, 3, dtype=torch.bool)
    advantages = torch.tensor([[2.0, -1.0]])
    result = clipped_policy_gradient(log_probs, old, mask, advantages, epsilon=0.2, epsilon_high=0.3)
    # A > 0: min(r, 1.3) A. A < 0: max(r, 0.8) A.
    assert result.total.item() == pytest.approx(-(1.1 + 1.3 + 0.5) * 2 + (0.8 + 0.9 + 1.5))
    gradient: Tensor
    (gradient,) = torch.autograd.grad(result.total, log_probs)
    held = [[[False, True, False], [True, False, False]]]
    assert (gradient == 0).tolist() == held
    share = clipped_share(log_probs, old, mask, advantages, epsilon=0.2, epsilon_high=0.3)
    assert (share.total, share.count) == (2, 6)


def test_clipped_ratio_starts_as_the_policy_gradient() -> None:
    log_probs = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 3, 4) < 0.8
    advantages = torch.tensor([[1.0, -1.0, 0.5], [0.2, float("nan"), -0.2]])
    gradients = [
        torch.autograd.grad(loss.mean, log_probs)[0]
        for loss in (
            policy_gradient(log_probs, mask, advantages),
            clipped_policy_gradient(log_probs, log_probs.detach(), mask, advantages),
        )
    ]
    torch.testing.assert_close(*gradients)
