"""EMScore of unit vectors against its definition, written as loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from rewards.emscore import CaptionVectors, TokenWeights, references_score, video_score


def vectors(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape), dim=-1)


def caption(length: int) -> CaptionVectors:
    tokens = vectors(length, 8)
    return CaptionVectors(tokens[-1], tokens, torch.rand(length))


def f_by_loops(tokens, weights, others, other_weights) -> float:
    precision = sum(w * max(float(t @ o) for o in others) for t, w in zip(tokens, weights, strict=True)) / sum(weights)
    recall = sum(w * max(float(t @ o) for t in tokens) for o, w in zip(others, other_weights, strict=True))
    recall /= sum(other_weights)
    return float(2 * precision * recall / (precision + recall))


def test_of_a_clip() -> None:
    frames, own = vectors(5, 8), caption(7)
    mean = frames.mean(0)
    coarse = float(own.whole @ (mean / mean.norm()))
    fine = f_by_loops(own.tokens, own.weights, frames, torch.ones(5))
    assert video_score(frames, own, "coarse").item() == pytest.approx(coarse, abs=1e-6)
    assert video_score(frames, own, "fine").item() == pytest.approx(fine, abs=1e-5)
    assert video_score(frames, own).item() == pytest.approx((coarse + fine) / 2, abs=1e-5)


def test_references_count_by_the_nearest_one_each_way() -> None:
    """The largest coarse and the largest fine score may be those of two references, as in the published code."""
    own, references = caption(6), [caption(4), caption(9), caption(5)]
    coarse = [float(own.whole @ other.whole) for other in references]
    fine = [f_by_loops(own.tokens, own.weights, other.tokens, other.weights) for other in references]
    assert references_score(references, own).item() == pytest.approx((max(coarse) + max(fine)) / 2, abs=1e-5)
    assert references_score([own], own).item() == pytest.approx(1.0, abs=1e-6)


def test_token_weights_are_inverse_document_frequencies() -> None:
    """ln((N + 1) / (count + 1)); 1 starts and 9 ends all three captions, and the end weighs the mean of all."""
    weigh = TokenWeights([[1, 5, 5, 9], [1, 5, 6, 9], [1, 7, 9]])
    rare, common = math.log(4 / 2), math.log(4 / 3)
    mean = (0 + common + rare + rare + 0) / 5
    expected = [0.0, common, rare, math.log(4), mean]
    torch.testing.assert_close(weigh(torch.tensor([1, 5, 7, 8, 9])), torch.tensor(expected))


def test_a_corpus_that_tells_nothing_apart_is_refused() -> None:
    with pytest.raises(ValueError, match=r"corpus of 1 caption\(s\)"):
        TokenWeights([[1, 5, 9]])
