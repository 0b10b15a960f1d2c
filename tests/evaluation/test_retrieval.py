"""Recall at K, counted by hand."""

import pytest
import torch

from rlcap.evaluation.retrieval import retrieval


def test_by_hand() -> None:
    """Caption 0 and 1 belong to picture 0; caption 1 lies at picture 1 by mistake."""
    pictures = torch.eye(3)
    captions = torch.stack([torch.tensor([0.9, 0.0, 0.1]), torch.tensor([0.1, 0.9, 0.0]), *torch.eye(3)[1:]])
    found = retrieval(pictures, captions, torch.tensor([0, 0, 1, 2]))
    assert found["text_to_image_r1"] == 75
    assert found["image_to_text_r1"] == 100  # picture 1's own caption is nearer still than caption 1
    assert found["r1"] == 87.5
    assert found["text_to_image_r5"] == found["image_to_text_r10"] == 100


def test_the_last_of_ten_is_found_at_ten() -> None:
    pictures = torch.eye(12)
    captions = torch.eye(12).clone()
    captions[0] = torch.cat([torch.tensor([0.1]), torch.full((9,), 0.3), torch.zeros(2)])
    found = retrieval(pictures, captions, torch.arange(12))
    assert found["text_to_image_r10"] == pytest.approx(100)
    assert found["text_to_image_r5"] == pytest.approx(100 * 11 / 12)


def test_equal_vectors_score_as_chance() -> None:
    pictures, captions = torch.ones(20, 2), torch.ones(40, 2)
    found = retrieval(pictures, captions, torch.arange(20).repeat_interleave(2))
    assert found["text_to_image_r1"] == pytest.approx(5)
    assert found["text_to_image_r10"] == pytest.approx(50)
    assert found["image_to_text_r5"] == pytest.approx(100 * 5 / 39)


def test_a_picture_without_captions_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 pictures have no captions, row 1 among them"):
        retrieval(torch.eye(3), torch.eye(3)[:2], torch.tensor([0, 2]))
