import pytest
import torch
from torch import nn

from captioners.scoring import reduce_vocabulary

T, D, V = 11, 6, 17


@pytest.fixture
def inputs():
    head = nn.Linear(D, V).double()
    hidden = torch.randn(T, D, dtype=torch.float64, requires_grad=True)
    return head, hidden, torch.randint(V, (T,))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_equal_the_definitions(inputs, temperature: float) -> None:
    head, hidden, targets = inputs
    log_probs, entropy, smoothing = reduce_vocabulary(hidden, targets, head, V, temperature)
    log_p = (head(hidden) / temperature).log_softmax(-1)
    assert torch.allclose(log_probs.double(), log_p[range(T), targets], atol=1e-6)
    assert torch.allclose(entropy.double(), -(log_p.exp() * log_p).sum(-1), atol=1e-6)
    assert torch.allclose(smoothing.double(), log_p.mean(-1), atol=1e-6)
    assert log_probs.dtype == entropy.dtype == smoothing.dtype == torch.float32
    assert not entropy.requires_grad
    assert smoothing.requires_grad


def test_gradients_equal_those_of_log_softmax(inputs) -> None:
    head, hidden, targets = inputs
    weights = torch.randn(T), torch.randn(T)
    log_probs, _, smoothing = reduce_vocabulary(hidden, targets, head, V, 0.7)
    ours = torch.autograd.grad((weights[0] * log_probs + weights[1] * smoothing).sum(), [hidden, *head.parameters()])
    log_p = (head(hidden) / 0.7).log_softmax(-1)
    loss = (weights[0] * log_p[range(T), targets] + weights[1] * log_p.mean(-1)).sum()
    for one, other in zip(ours, torch.autograd.grad(loss, [hidden, *head.parameters()]), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_chunks_change_neither_scores_nor_gradients_and_bound_the_logits(inputs) -> None:
    head, hidden, targets = inputs
    widths = []
    head.register_forward_hook(lambda module, args, output: widths.append(len(output)))

    def run(max_bytes: int):
        scores = reduce_vocabulary(hidden, targets, head, V, max_bytes=max_bytes)
        loss = (scores[0] + 0.1 * scores[2]).sum()
        return scores, torch.autograd.grad(loss, [hidden, *head.parameters()])

    whole, whole_gradients = run(10**9)
    assert widths == [T]
    widths.clear()
    chunked, chunked_gradients = run(4 * V * 3)
    # Three tokens at a time, once forward and once again in backward.
    assert sorted(widths) == sorted([3, 3, 3, 2] * 2)
    for one, other in zip(whole, chunked, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    for one, other in zip(whole_gradients, chunked_gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_half_precision_logits_are_reduced_in_fp32() -> None:
    hidden = torch.randn(5, D, dtype=torch.bfloat16)
    head = nn.Linear(D, V).bfloat16()
    log_probs, entropy, _ = reduce_vocabulary(hidden, torch.zeros(5, dtype=torch.long), head, V)
    log_p = head(hidden).float().log_softmax(-1)
    assert torch.allclose(log_probs, log_p[:, 0], atol=1e-6)
    assert torch.allclose(entropy, -(log_p.exp() * log_p).sum(-1), atol=1e-6)


def test_no_tokens_give_no_scores_but_a_graph(inputs) -> None:
    head, hidden, targets = inputs
    log_probs, _, _ = reduce_vocabulary(hidden[:0], targets[:0], head, V)
    log_probs.sum().backward()
    assert head.weight.grad.abs().sum() == 0
    assert hidden.grad.abs().sum() == 0


def test_temperature_must_be_positive(inputs) -> None:
    head, hidden, targets = inputs
    with pytest.raises(ValueError, match="temperature is 0"):
        reduce_vocabulary(hidden, targets, head, V, 0)
