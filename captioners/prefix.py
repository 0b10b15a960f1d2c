"""Decoders that read the picture as a prefix in self-attention, behind the same call as those with cross-attention.

The prefix runs once a picture into a key-value cache that its K captions share, in generation and, with gradient, in
scoring. Where layers are computed again in backward they take no cache: scoring then runs one packed sequence
[prefix; caption 1; ...; caption K] a picture, under a mask that lets each caption see the prefix and itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from captioners.cache import RoomyCache
from captioners.decoders import Decoder
from captioners.modes import recomputes
from captioners.types import VisualContext


@dataclass(frozen=True)
class PrefixFamily:
    """How a family of causal language models takes embeddings of its own making.

    embed: (model, ids [R, S], positions [R, S]) to what `layers` takes [R, S, D].
    layers: (model, embeddings [R, S, D], positions [R, S], attention mask, cache) to hidden states [R, S, D].
    head: the module from hidden states to logits. limit: how many positions it has. config: of a model, that of its
    language model.
    bidirectional: the positions of a prefix see each other; elsewhere each sees those before it.
    positions_in_prefix: the prefix takes positions too, and the captions' follow on them.
    """

    embed: Callable[[Any, Tensor, Tensor], Tensor]
    layers: Callable[[Any, Tensor, Tensor, Tensor, Cache | None], Tensor]
    head: Callable[[Any], nn.Module]
    limit: Callable[[Any], int]
    bidirectional: bool
    positions_in_prefix: bool
    config: Callable[[Any], PreTrainedConfig] = lambda model: model.config


# The embeddings are GIT's own call: GitModel would add positions to the prefix too.
_GIT = PrefixFamily(
    embed=lambda model, ids, positions: model.git.embeddings(input_ids=ids, position_ids=positions),
    layers=lambda model, embeddings, positions, mask, cache: (
        model.git.encoder(embeddings, attention_mask=mask, past_key_values=cache).last_hidden_state
    ),
    head=lambda model: model.output,
    limit=lambda config: config.max_position_embeddings,
    bidirectional=True,
    positions_in_prefix=False,
)
_OPT = PrefixFamily(
    embed=lambda model, ids, positions: model.model.decoder.embed_tokens(ids),
    layers=lambda model, embeddings, positions, mask, cache: (
        model.model.decoder(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
    ),
    head=lambda model: model.lm_head,
    limit=lambda config: config.max_position_embeddings,
    bidirectional=False,
    positions_in_prefix=True,
)
PREFIX_FAMILIES = {"git": _GIT, "opt": _OPT}
PACKED_TOKENS = 2048
"""Above this many tokens in a picture's captions together, "auto" gives each caption its own row.

Rows are faster from 5 x 60 tokens on, but hold the prefix's keys and values once a caption. Forward and backward on one
core, in processor time against one sequence [prefix; caption 1; ...], at 5 x 20, 5 x 60 and 8 x 100 tokens:

    GIT, d 256, 3 layers, prefix of 197      a row on the cache .93 .90 .72    rows on the cache 1.00 .86 .53
    LLaVA, d 256, 4 layers, prefix of 295    a row on the cache 1.02 .91 .87   rows on the cache 1.08 .87 .70

Rows that each run the prefix take 4.0, 2.4 and 1.2 times as long as one sequence with the first, 4.3, 2.8 and 2.2 with
the second.
"""


class PrefixDecoder(Decoder):
    """A causal language model whose contexts are prefixes. Raises ValueError as TextDecoder does.

    family: how the model is reached; by its type where None. Positions are always told to the model, so shorter
    prefixes in a batch (context.mask) change nothing.
    """

    def __init__(self, model: PreTrainedModel, family: PrefixFamily | None = None):
        if family is None:
            if model.config.model_type not in PREFIX_FAMILIES:
                raise ValueError(
                    f"the decoder is a {model.config.model_type!r}; decoders that read a prefix are "
                    f"{', '.join(sorted(PREFIX_FAMILIES))}"
                )
            family = PREFIX_FAMILIES[model.config.model_type]
        self.family = family
        super().__init__(model, family.config(model), family.head(model), PACKED_TOKENS)

    def limit(self, prefix: int) -> int:
        """The longest caption in tokens, EOS included, behind a prefix of so many positions; ValueError where none."""
        positions = self.family.limit(self.config)
        if not self.family.positions_in_prefix:
            return positions
        if prefix >= positions:
            raise ValueError(f"the decoder has {positions} positions, of which the picture's {prefix} leave no caption")
        return positions - prefix

    def check_room(self, context: VisualContext, tokens: int) -> None:
        """Raises ValueError where prefix and tokens are more than the positions that there are."""
        prefix, positions = context.states.shape[1], self.family.limit(self.config)
        if self.family.positions_in_prefix and prefix + tokens > positions:
            raise ValueError(
                f"the decoder has {positions} positions, but pictures and prompt take {prefix} and a caption {tokens}"
            )

    def begin(self, context: VisualContext) -> Cache:
        """A cache that holds the prefixes' keys and values."""
        cache = RoomyCache()
        prefix = self._embedded(context)
        mask = self._mask(self._prefix_mask(context), prefix.dtype)
        self.family.layers(self.model, prefix, _positions(context), mask, cache)
        return cache

    def prefilled(self, context: VisualContext) -> Cache | None:
        """That cache, through which gradients reach the prefix; none where layers are computed again in backward."""
        return None if recomputes(self.model) else self.begin(context)

    def hidden(
        self,
        ids: Tensor,
        positions: Tensor,
        allowed: Tensor | None,
        context: VisualContext,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states [R, S, D] of tokens behind R prefixes; see Decoder."""
        rows, tokens = ids.shape
        before = _positions(context)
        if self.family.positions_in_prefix:
            positions = positions + _next_position(context, before)
        if before.ndim > positions.ndim:
            # Words are at the same place on every axis.
            positions = positions[..., None].expand(-1, -1, before.shape[-1])
        embeddings = self.family.embed(self.model, ids, positions)
        if allowed is None:
            past = 0 if cache is None else cache.get_seq_length() - context.states.shape[1]
            allowed = torch.ones(tokens, past + tokens, dtype=torch.bool, device=ids.device).tril(past)[None, None]
        seen = _present(context)[:, None, None].expand(-1, -1, tokens, -1)
        mask = torch.cat([seen, allowed.expand(rows, -1, -1, -1)], dim=-1)
        if cache is not None:
            return self.family.layers(self.model, embeddings, positions, self._mask(mask, embeddings.dtype), cache)
        prefix = context.states.shape[1]
        above = nn.functional.pad(self._prefix_mask(context), (0, allowed.shape[-1]))
        mask = self._mask(torch.cat([above, mask], dim=-2), embeddings.dtype)
        embeddings = torch.cat([self._embedded(context), embeddings], dim=1)
        positions = torch.cat([before, positions], dim=1)
        return self.family.layers(self.model, embeddings, positions, mask, None)[:, prefix:]

    def _embedded(self, context: VisualContext) -> Tensor:
        # [R, N, D], the words of a prompt among the states.
        if context.words is None:
            return context.states
        words = self.family.embed(self.model, context.words.clamp(min=0), _positions(context))
        return torch.where(context.words[..., None] < 0, context.states.to(words.dtype), words)

    def _prefix_mask(self, context: VisualContext) -> Tensor:
        # [R, 1, N, N]. Padding sees padding, so that no row of the mask is empty.
        present = _present(context)
        allowed = present[:, None, :, None] == present[:, None, None, :]
        return allowed if self.family.bidirectional else allowed.tril()


def _present(context: VisualContext) -> Tensor:
    # [R, N]
    if context.mask is not None:
        return context.mask
    return torch.ones(context.states.shape[:2], dtype=torch.bool, device=context.states.device)


def _positions(context: VisualContext) -> Tensor:
    # [R, N] or [R, N, A]; counted over what is there where the context does not say.
    if context.positions is not None:
        return context.positions
    return (_present(context).cumsum(dim=1) - 1).clamp(min=0)


def _next_position(context: VisualContext, positions: Tensor) -> Tensor:
    # [R, 1]: behind the farthest on any axis, whatever number of tokens there is.
    if context.positions is None:
        return _present(context).sum(dim=1, keepdim=True)
    present = _present(context)[..., None] if positions.ndim == 3 else _present(context)
    return positions.masked_fill(~present, -1).flatten(1).amax(dim=1, keepdim=True) + 1
