"""Sampled and greedy captions, one token a step."""

from collections.abc import Callable

import torch
from torch import Tensor

from captioners.layout import Steps
from captioners.text import SpecialTokens
from captioners.types import CaptionTokens, GenerationSettings

Choice = Callable[[int, Tensor], Tensor]
"""(step, logits [B, K, V]) -> tokens [B, K]"""


def sampled(
    shape: tuple[int, int], generation: GenerationSettings, generator: torch.Generator | None, device: torch.device
) -> Choice:
    """Draws each token from softmax(logits / temperature), cut to top-k and then top-p where they are on.

    All random numbers of a call, one a caption and step, are drawn at once from `generator` (on its device; the
    default one of `device` where None), so what is drawn depends on its state alone, not on where captions end.
    """
    source = device if generator is None else generator.device
    size = (generation.max_new_tokens, *shape)
    # fp32, so that after the conversion u < 1 holds with room to spare: u * total must stay below total.
    uniform = torch.rand(size, generator=generator, device=source).to(device, torch.float64)

    def choose(step: int, logits: Tensor) -> Tensor:
        logits = logits.float() / generation.temperature
        if generation.top_k:
            kth = logits.topk(min(generation.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < kth, float("-inf"))
        if generation.top_p < 1:
            logits = _nucleus(logits, generation.top_p)
        # Inversion: one uniform number a token, where the exponential race of torch.multinomial draws V of them.
        mass = logits.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
        target = uniform[step][..., None] * mass[..., -1:]
        return torch.searchsorted(mass, target, right=True).squeeze(-1)

    return choose


def most_likely(step: int, logits: Tensor) -> Tensor:
    """The token with the highest logit."""
    return logits.argmax(dim=-1)


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    # The smallest set of most likely tokens whose probability reaches top_p; always the first.
    ordered, index = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1).roll(1, dims=-1)
    before[..., 0] = 0
    return logits.masked_fill(
        torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, before >= top_p), -torch.inf
    )


def generate(
    steps: Steps,
    shape: tuple[int, int],
    special: SpecialTokens,
    max_new_tokens: int,
    choose: Choice,
    all_done: Callable[[Tensor], bool],
    device: torch.device,
) -> CaptionTokens:
    """B x K captions, each extended by `choose` until its EOS or max_new_tokens; ends when `all_done(finished)`."""
    tokens = torch.full(shape, special.start, dtype=torch.long, device=device)
    finished = torch.zeros(shape, dtype=torch.bool, device=device)
    ids, mask = [], []
    for step in range(max_new_tokens):
        chosen = choose(step, steps.step(tokens))
        tokens = chosen.masked_fill(finished, special.pad)
        ids.append(tokens)
        mask.append(~finished)
        finished = finished | (tokens == special.eos)
        if all_done(finished):
            break
    ids_bkl, mask_bkl = torch.stack(ids, dim=-1), torch.stack(mask, dim=-1)
    # Where pad and EOS are one id, a finished caption stays finished; an unfinished one holds no EOS.
    longest = int(mask_bkl.any(dim=1).any(dim=0).sum())
    return CaptionTokens(
        ids_bkl[..., :longest],
        mask_bkl[..., :longest],
        torch.ones_like(finished),
        finished,
    )
