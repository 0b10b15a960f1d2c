"""InfoNCE in closed form."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from rlcap.objectives.contrastive import info_nce


def test_orthogonal_pairs_in_closed_form() -> None:
    for scale in (0.0, 1.0, 7.0):
        loss = info_nce(torch.eye(4), torch.eye(4), scale)
        assert loss.item() == pytest.approx(math.log(math.exp(scale) + 3) - scale, abs=1e-6)
    assert info_nce(torch.eye(4), torch.eye(4)[[1, 2, 3, 0]], 2.0).item() == pytest.approx(math.log(math.exp(2) + 3))


def test_both_directions_count_half() -> None:
    """Pictures that are all the same tell no caption apart, and captions that differ choose no picture."""
    pictures = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    captions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    picture_to_caption = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(3))) / 2
    assert info_nce(pictures, captions, 3.0).item() == pytest.approx((picture_to_caption + math.log(2)) / 2)
    assert info_nce(captions, pictures, 3.0).item() == pytest.approx((picture_to_caption + math.log(2)) / 2)


def test_the_temperature_has_the_gradient_of_the_closed_form() -> None:
    scale = torch.tensor(1.5, requires_grad=True)
    info_nce(torch.eye(3), torch.eye(3), scale).backward()
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(math.exp(1.5) / (math.exp(1.5) + 2) - 1)


def test_rows_that_are_no_pairs_are_refused() -> None:
    vectors = normalize(torch.randn(3, 2), dim=-1)
    with pytest.raises(ValueError, match=r"pictures are \(3, 2\), captions \(2, 2\)"):
        info_nce(vectors, vectors[:2], 1.0)
    with pytest.raises(ValueError, match="give N pairs of rows"):
        info_nce(vectors[:0], vectors[:0], 1.0)
