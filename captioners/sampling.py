"""Sampled and greedy captions, one token a step."""

from collections.abc import Callable

import torch
from torch import Tensor

from captioners.layout import Steps, begin
from captioners.text import SpecialTokens
from captioners.types import CaptionTokens, GenerationSettings

Choice = Callable[[int, Tensor, Tensor], Tensor]
"""(step, logits [P, K, V], which of the B pictures these are [P]) -> tokens [P, K]"""

DROP_SHARE = 0.25
"""Pictures whose captions have all ended leave the batch once they are this share of it: moving the cache costs too.

Measured on one core for 16 pictures x 5 captions of 11.5 +- 2.5 tokens: 12 % less time to sample.
"""


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

    def choose(step: int, logits: Tensor, pictures: Tensor) -> Tensor:
        logits = logits.float() / generation.temperature
        if generation.top_k:
            kth = logits.topk(min(generation.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < kth, float("-inf"))
        if generation.top_p < 1:
            logits = _nucleus(logits, generation.top_p)
        # Inversion: one uniform number a token, where the exponential race of torch.multinomial draws V of them.
        mass = logits.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
        target = uniform[step, pictures, :, None] * mass[..., -1:]
        return torch.searchsorted(mass, target, right=True).squeeze(-1)

    return choose


def most_likely(step: int, logits: Tensor, pictures: Tensor) -> Tensor:
    """The token with the highest logit."""
    return logits.argmax(dim=-1)


def with_most_likely(choose: Choice) -> Choice:
    """Chooses for all captions of a picture but its last, which takes the token with the highest logit."""

    def both(step: int, logits: Tensor, pictures: Tensor) -> Tensor:
        chosen = choose(step, logits[:, :-1], pictures)
        return torch.cat([chosen, most_likely(step, logits[:, -1:], pictures)], dim=1)

    return both


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
    all_done: Callable[[bool], bool],
    device: torch.device,
) -> CaptionTokens:
    """B x K captions, each extended by `choose` until its EOS or max_new_tokens; ends when `all_done(done here)`."""
    ids = torch.full((*shape, max_new_tokens), special.pad, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    finished = torch.zeros(shape, dtype=torch.bool, device=device)
    present = torch.arange(shape[0], device=device)
    tokens = begin(steps, shape, special, device)
    for step in range(max_new_tokens):
        chosen = choose(step, steps.step(tokens), present)
        ended = finished[present]
        tokens = chosen.masked_fill(ended, special.pad)
        ids[present, :, step] = tokens
        mask[present, :, step] = ~ended
        ended = ended | (tokens == special.eos)
        finished[present] = ended
        running = (~ended.all(dim=1)).nonzero().squeeze(1)
        if all_done(len(running) == 0):
            break
        if steps.drops and 0 < len(running) <= (1 - DROP_SHARE) * len(present):
            steps.keep(running)
            present, tokens = present[running], tokens[running]
    # Shorter than the steps taken where other ranks had longer captions.
    longest = int(mask.any(dim=1).any(dim=0).sum())
    return CaptionTokens(ids[..., :longest], mask[..., :longest], torch.ones_like(finished), finished)
