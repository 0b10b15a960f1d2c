"""Objectives of the comparative scorer, in closed form."""

import pytest
import torch

from rlcap.objectives.comparative import absolute_error, hinge, ranking_penalty, squared_error
from rlcap.objectives.ranking import bradley_terry


def test_hinge_counts_what_the_margin_lacks() -> None:
    loss = hinge(torch.tensor([2.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
    assert loss.total.item() == pytest.approx(0 + 0.5 + 2)
    assert loss.mean.item() == pytest.approx(2.5 / 3)
    assert hinge(torch.tensor([2.0]), torch.tensor([0.0]), margin=2.5).mean.item() == pytest.approx(0.5)


def test_bradley_terry_of_pairs_is_softplus_of_the_gap() -> None:
    scores = torch.tensor([[2.0, 0.5], [0.0, 1.0]])
    expected = torch.nn.functional.softplus(torch.tensor([-1.5, 1.0])).mean()
    torch.testing.assert_close(bradley_terry(scores, torch.ones(2, 2, dtype=torch.bool)).mean, expected)


def test_errors_of_ratings() -> None:
    scores, ratings = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])
    assert absolute_error(scores, ratings).mean.item() == 2
    assert squared_error(scores, ratings).mean.item() == 5


def test_the_published_penalty_has_no_gradient_and_the_smooth_one_has() -> None:
    ratings = torch.tensor([3.0, 2.0, 1.0])
    right, wrong = torch.tensor([9.0, 5.0, 1.0]), torch.tensor([1.0, 5.0, 9.0])
    assert ranking_penalty(right, ratings).item() == 0
    assert ranking_penalty(wrong, ratings).item() == pytest.approx(6 * 4 / 9)  # (1 - -1)^2 off the diagonal of 3 x 3
    for smooth in (False, True):
        scores = wrong.clone().div(8).requires_grad_()
        # sign() is flat: autograd gives zeros, or no gradient at all
        (ranking_penalty(scores, ratings, smooth=smooth) + 0 * scores.sum()).backward()
        assert bool(scores.grad.abs().sum() > 0) is smooth
    assert scores.grad[0] < 0 < scores.grad[2]  # the smooth one lifts the best and lowers the worst
    # far apart, both are one
    torch.testing.assert_close(
        ranking_penalty(wrong, ratings, smooth=True), ranking_penalty(wrong, ratings), atol=0.02, rtol=0
    )
