"""Sampling at fixed shapes: one step that `torch.compile`, and CUDA graphs beneath it, take again and again.

A step of a small decoder is a hundred kernels of microseconds each, and on a GPU starting them takes longer than
running them. So nothing here changes its shape or place from step to step or from call to call: the cache has room for
all tokens from the start, a mask says which are there, and captions that have ended stay in the batch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import EncoderDecoderCache, StaticCache

from captioners.decoders import Decoder
from captioners.types import VisualContext

MOST_SHAPES = 4
"""Shapes of a batch that are compiled and keep their caches; what comes in further ones is sampled step by step."""


class StaticSteps:
    """What PackedSteps does, on tensors that stay where they are.

    The first step, which also projects the picture for cross-attention, runs as it is; the others are compiled.
    """

    drops = False

    def __init__(
        self,
        decoder: Decoder,
        context: VisualContext,
        num_captions: int,
        max_steps: int,
        options: Mapping[str, Any],
    ):
        device, room = context.states.device, num_captions * max_steps
        self._decoder = decoder
        self._context = VisualContext(
            torch.empty_like(context.states), None if context.mask is None else torch.empty_like(context.mask)
        )
        self._cache = EncoderDecoderCache(
            StaticCache(decoder.config, max_cache_len=room),
            StaticCache(decoder.config, max_cache_len=context.states.shape[1]),
        )
        self._own = torch.eye(num_captions, dtype=torch.bool, device=device).repeat(1, max_steps)[None, None]
        self._fed_at = torch.arange(room, device=device) // num_captions
        self._taken = torch.zeros((), dtype=torch.long, device=device)
        self._first = True
        self._compiled = torch.compile(self._logits, dynamic=False, **options)

    def begin(self, context: VisualContext) -> None:
        """Starts anew with other pictures of the same shape."""
        self._context.states.copy_(context.states)
        if self._context.mask is not None and context.mask is not None:
            self._context.mask.copy_(context.mask)
        for cache in (self._cache.self_attention_cache, self._cache.cross_attention_cache):
            for layer in cache.layers:
                layer.cumulative_length.zero_()
        self._cache.is_updated = dict.fromkeys(self._cache.is_updated, False)
        self._taken.zero_()
        self._first = True

    def step(self, tokens: Tensor) -> Tensor:
        """Feeds tokens [B, K]; returns the logits [B, K, V], which hold until the next step."""
        if self._first:
            logits, self._first = self._logits(tokens, self._taken), False
        else:
            torch.compiler.cudagraph_mark_step_begin()
            logits = self._compiled(tokens, self._taken)
        self._taken += 1
        return logits

    def _logits(self, tokens: Tensor, taken: Tensor) -> Tensor:
        allowed = self._own & (self._fed_at <= taken)
        hidden = self._decoder.hidden(tokens, taken.expand_as(tokens), allowed, self._context, self._cache)
        return self._decoder.head(hidden)

    def follow(self, parents: Tensor) -> None:
        """Never called: beams take other steps."""
        raise TypeError("steps of fixed shapes are for sampling and greedy captions, not for beams")

    def keep(self, pictures: Tensor) -> None:
        """Never called, since `drops` is False."""
        raise TypeError("steps of fixed shapes keep all pictures")


class StaticSampling:
    """The steps of the first `MOST_SHAPES` shapes that come by. options: of `torch.compile`."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._known: dict[tuple, StaticSteps] = {}

    def steps(self, decoder: Decoder, context: VisualContext, num_captions: int, max_steps: int) -> StaticSteps | None:
        """Steps that begin with these pictures; None where there have been too many shapes."""
        states = context.states
        shape = (states.shape, states.dtype, states.device, context.mask is None, num_captions, max_steps)
        if shape not in self._known:
            if len(self._known) == MOST_SHAPES:
                return None
            self._known[shape] = StaticSteps(decoder, context, num_captions, max_steps, self._options)
        steps = self._known[shape]
        steps.begin(context)
        return steps
