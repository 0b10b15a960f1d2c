"""Beam search with the semantics of transformers' `generate(num_beams=..., early_stopping=False)`."""

from collections.abc import Callable

import torch
from torch import Tensor

from captioners.layout import Steps, begin
from captioners.text import SpecialTokens
from captioners.types import CaptionTokens, GenerationSettings

IMPOSSIBLE = -1.0e9


def beam_search(
    steps: Steps,
    num_pictures: int,
    special: SpecialTokens,
    generation: GenerationSettings,
    num_return: int,
    all_done: Callable[[bool], bool],
    device: torch.device,
) -> CaptionTokens:
    """The num_return best captions of each picture, best first: K = num_return of num_beams.

    A finished caption's score is its log-probability divided by its length (EOS and forced tokens included) to the
    power length_penalty.
    A picture is done when its best running beam, divided by the present length to that power, is no better than its
    worst finished one (the heuristic of early_stopping=False). Captions cut at max_new_tokens compete like finished
    ones. Source: transformers/generation/utils.py, `_beam_search`.
    """
    beams, limit = generation.num_beams, generation.max_new_tokens
    running = torch.full((num_pictures, beams, limit), special.pad, dtype=torch.long, device=device)
    running_scores = torch.full((num_pictures, beams), IMPOSSIBLE, device=device)
    # All beams begin alike: only the first counts, or they would stay the same caption.
    running_scores[:, 0] = 0
    best = running.clone()
    best_scores = torch.full((num_pictures, beams), IMPOSSIBLE, device=device)
    best_lengths = torch.zeros((num_pictures, beams), dtype=torch.long, device=device)
    improvable = torch.ones((num_pictures, 1), dtype=torch.bool, device=device)
    tokens = begin(steps, (num_pictures, beams), special, device)
    for length in range(1, limit + 1):
        log_probs = steps.step(tokens).float().log_softmax(dim=-1)
        vocab_size = log_probs.shape[-1]
        # Twice as many candidates as beams: should all beams end in EOS, as many stay to continue.
        scores, index = (running_scores[:, :, None] + log_probs).flatten(1).topk(2 * beams)
        parents, tokens = index // vocab_size, index % vocab_size
        candidates = _gathered(running, parents)
        candidates[:, :, length - 1] = tokens
        ends = tokens == special.eos
        penalty = (length + special.forced) ** generation.length_penalty
        if length == limit:
            ends = torch.ones_like(ends)

        running_scores, kept = (scores + ends * IMPOSSIBLE).topk(beams)
        running = _gathered(candidates, kept)
        steps.follow(parents.gather(1, kept))

        finals = scores / penalty
        finals = finals + ~improvable * IMPOSSIBLE
        # Only what ends among the first num_beams counts; the rest is there to continue.
        just_ended = ends & (torch.arange(2 * beams, device=device) < beams)
        finals = finals + ~just_ended * IMPOSSIBLE
        merged = torch.cat([best_scores, finals], dim=1)
        best_scores, chosen = merged.topk(beams)
        best = _gathered(torch.cat([best, candidates], dim=1), chosen)
        lengths = torch.cat([best_lengths, torch.where(just_ended & improvable, length, 0)], dim=1)
        best_lengths = lengths.gather(1, chosen)

        worst = torch.where(best_lengths > 0, best_scores.amin(dim=1, keepdim=True), IMPOSSIBLE)
        attainable = running_scores[:, :1] / penalty
        improvable = improvable & (attainable > worst).any(dim=1, keepdim=True)
        tokens = tokens.gather(1, kept)
        if all_done(not bool(improvable.any())):
            break
    best, best_lengths = best[:, :num_return], best_lengths[:, :num_return]
    longest = int(best_lengths.max())
    mask = torch.arange(longest, device=device) < best_lengths[:, :, None]
    last = best.gather(2, (best_lengths - 1).clamp(min=0)[:, :, None]).squeeze(2)
    ids = best[:, :, :longest].masked_fill(~mask, special.pad)
    return CaptionTokens(ids, mask, best_lengths > 0, (last == special.eos) & (best_lengths > 0))


def _gathered(sequences: Tensor, beams: Tensor) -> Tensor:
    return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[-1]))
