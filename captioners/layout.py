"""How the K captions of a picture lie in the decoder's batch.

`packed`: all captions of a picture share one row, under a mask that lets each see only itself, with positions counted
per caption. The picture's keys and values in cross-attention are then projected once, not K times, and padding costs
nothing. `rows`: every caption is a row and the picture's states are repeated, for decoders that take no position ids
and for captions so long that attention over the packed row costs more than it saves. A prefix that is in a cache runs
once a picture in both: its keys and values are shared by a packed row, and repeated for rows.
"""

from typing import Protocol

import torch
from torch import Tensor

from captioners.decoders import Decoder, self_attention
from captioners.text import SpecialTokens
from captioners.types import CaptionTokens, VisualContext


class Steps(Protocol):
    """K captions of each of B pictures, extended by one token a step through a key-value cache.

    drops: pictures whose captions have ended may leave the batch (`keep`).
    """

    drops: bool

    def step(self, tokens: Tensor) -> Tensor:
        """Feeds tokens [B, K]; returns the logits [B, K, V] of the tokens after them."""

    def follow(self, parents: Tensor) -> None:
        """Caption k of picture b now continues what caption parents[b, k] of picture b was."""

    def keep(self, pictures: Tensor) -> None:
        """Goes on with these pictures alone, given by their places among the present ones."""


class Layout(Protocol):
    """A way to run the decoder over captions."""

    def hidden(self, decoder: Decoder, context: VisualContext, captions: CaptionTokens, start: int) -> Tensor:
        """Hidden states [T, D] that predict the T scored tokens, in the order of `scored(captions)`."""

    def steps(self, decoder: Decoder, context: VisualContext, num_captions: int, max_steps: int) -> Steps:
        """Begins num_captions captions for every picture."""


def scored(captions: CaptionTokens) -> Tensor:
    """The tokens [B, K, L] that are scored: under the mask, in captions that exist."""
    return captions.mask & captions.caption_mask[:, :, None]


def prefixed(captions: CaptionTokens, prefix: tuple[int, ...]) -> CaptionTokens:
    """The captions behind the tokens of `prefix`, which are context without a score."""
    before = captions.ids.new_tensor(prefix).expand(*captions.ids.shape[:2], -1)
    return CaptionTokens(
        torch.cat([before, captions.ids], dim=-1),
        torch.cat([torch.zeros_like(before, dtype=torch.bool), captions.mask], dim=-1),
        captions.caption_mask,
        captions.finished,
    )


def begin(steps: Steps, shape: tuple[int, int], special: SpecialTokens, device: torch.device) -> Tensor:
    """Feeds what B x K captions begin with but for its last token, which is returned, [B, K], to be fed next."""
    *fed, last = (
        torch.full(shape, token, dtype=torch.long, device=device) for token in (special.start, *special.prefix)
    )
    for tokens in fed:
        steps.step(tokens)
    return last


def _lengths(captions: CaptionTokens) -> Tensor:
    # Up to the last scored token: a hole in the mask is context that is not scored.
    position = torch.arange(1, captions.ids.shape[-1] + 1, device=captions.ids.device)
    return (scored(captions) * position).amax(dim=-1)


def _inputs(captions: CaptionTokens, start: int) -> Tensor:
    # What predicts ids[..., l] is the start token for l = 0 and ids[..., l - 1] behind it.
    return torch.cat([torch.full_like(captions.ids[..., :1], start), captions.ids[..., :-1]], dim=-1)


class PackedLayout:
    """All captions of a picture in one row."""

    def hidden(self, decoder: Decoder, context: VisualContext, captions: CaptionTokens, start: int) -> Tensor:
        lengths = _lengths(captions)
        num_pictures, num_captions, num_positions = captions.ids.shape
        device = captions.ids.device
        ends = lengths.cumsum(dim=1)
        width = max(int(ends[:, -1].max()), 1)
        position = torch.arange(num_positions, device=device)
        fed = position < lengths[:, :, None]
        column = (ends - lengths)[:, :, None] + position
        picture = torch.arange(num_pictures, device=device)[:, None, None].expand_as(column)
        caption = torch.arange(num_captions, device=device)[:, None].expand_as(column)
        ids = captions.ids.new_full((num_pictures, width), start)
        positions = torch.zeros_like(ids)
        owner = torch.full_like(ids, -1)
        where = (picture[fed], column[fed])
        ids[where] = _inputs(captions, start)[fed]
        positions[where] = position.expand_as(column)[fed]
        owner[where] = caption[fed]
        # Padding belongs to "caption -1" and sees its own kind, so that no row of the mask is empty.
        order = torch.arange(width, device=device)
        allowed = (owner[:, :, None] == owner[:, None, :]) & (order[:, None] >= order)
        hidden = decoder.hidden(ids, positions, allowed[:, None], context, decoder.prefilled(context))
        wanted = scored(captions)
        return hidden[picture[wanted], column[wanted]]

    def steps(self, decoder: Decoder, context: VisualContext, num_captions: int, max_steps: int) -> Steps:
        return PackedSteps(decoder, context, num_captions, max_steps)


class PackedSteps:
    """Each step feeds [B, K] tokens as K queries; the cache grows by K entries, and a mask says whose they are.

    A beam that changes its parent changes a row of the mask: nothing in the cache moves.
    """

    drops = True

    def __init__(self, decoder: Decoder, context: VisualContext, num_captions: int, max_steps: int):
        self.decoder, self.context, self.num_captions = decoder, context, num_captions
        self.cache = decoder.begin(context)
        self.taken = 0
        # [1, 1, K, K·T]: one mask serves all pictures until `follow` makes them differ.
        own = torch.eye(num_captions, dtype=torch.bool, device=context.states.device)
        self.allowed = own.repeat(1, max_steps)[None, None]

    def step(self, tokens: Tensor) -> Tensor:
        positions = torch.full_like(tokens, self.taken)
        self.taken += 1
        allowed = self.allowed[..., : self.taken * self.num_captions]
        hidden = self.decoder.hidden(tokens, positions, allowed, self.context, self.cache)
        return self.decoder.head(hidden)

    def follow(self, parents: Tensor) -> None:
        past = self.taken * self.num_captions
        allowed = self.allowed.expand(len(parents), -1, -1, -1)
        index = parents[:, None, :, None].expand(-1, -1, -1, past)
        self.allowed = torch.cat([allowed[..., :past].gather(2, index), allowed[..., past:]], dim=-1)

    def keep(self, pictures: Tensor) -> None:
        self.context = self.context.pick(pictures)
        self.cache.batch_select_indices(pictures)
        if len(self.allowed) > 1:
            self.allowed = self.allowed[pictures]


class RowsLayout:
    """Every caption in a row of its own."""

    def hidden(self, decoder: Decoder, context: VisualContext, captions: CaptionTokens, start: int) -> Tensor:
        lengths = _lengths(captions).flatten()
        width = max(int(lengths.max()), 1)
        # Captions that do not exist take no row; at least one row stays, so that every parameter is reached.
        rows = (lengths > 0).nonzero().squeeze(1)
        if len(rows) == 0:
            rows = rows.new_zeros(1)
        num_captions = captions.ids.shape[1]
        ids = _inputs(captions, start).flatten(0, 1)[rows, :width]
        positions = torch.arange(width, device=ids.device).expand_as(ids)
        pictures = rows // num_captions
        cache = decoder.prefilled(context)
        if cache is not None:
            cache.batch_select_indices(pictures)
        # Padding is on the right, where plain causal attention keeps it from every scored token.
        hidden = decoder.hidden(ids, positions, None, context.pick(pictures), cache)
        return hidden[scored(captions).flatten(0, 1)[rows, :width]]

    def steps(self, decoder: Decoder, context: VisualContext, num_captions: int, max_steps: int) -> Steps:
        return RowSteps(decoder, context, num_captions)


class RowSteps:
    """Each step feeds [B·K, 1] tokens; a beam that changes its parent moves its row of the cache."""

    drops = True

    def __init__(self, decoder: Decoder, context: VisualContext, num_captions: int):
        pictures = torch.arange(len(context.states), device=context.states.device)
        self.decoder, self.num_captions = decoder, num_captions
        self.context = context.pick(pictures.repeat_interleave(num_captions))
        self.cache = decoder.begin(context)
        self.cache.batch_repeat_interleave(num_captions)
        self.taken = 0

    def step(self, tokens: Tensor) -> Tensor:
        ids = tokens.flatten()[:, None]
        positions = torch.full_like(ids, self.taken)
        self.taken += 1
        hidden = self.decoder.hidden(ids, positions, None, self.context, self.cache)
        return self.decoder.head(hidden).view(*tokens.shape, -1)

    def follow(self, parents: Tensor) -> None:
        first_row = torch.arange(len(parents), device=parents.device)[:, None] * parents.shape[1]
        # Cross-attention stays: all captions of a picture look at the same states.
        self_attention(self.cache).batch_select_indices((first_row + parents).flatten())

    def keep(self, pictures: Tensor) -> None:
        rows = (
            pictures[:, None] * self.num_captions + torch.arange(self.num_captions, device=pictures.device)
        ).flatten()
        self.context = self.context.pick(rows)
        self.cache.batch_select_indices(rows)
