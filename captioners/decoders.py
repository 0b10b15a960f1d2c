"""The text decoders that captioners are built from, behind one call: token ids to hidden states to logits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedConfig, PreTrainedModel
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer
from transformers.models.mbart.modeling_mbart import MBartDecoderLayer
from transformers.models.opt.modeling_opt import OPTDecoderLayer
from transformers.models.trocr.modeling_trocr import TrOCRDecoderLayer

from captioners.cache import RoomyCache
from captioners.types import VisualContext

PACKED_TOKENS = 512
"""Above this many tokens in a picture's captions together, "auto" gives each caption its own row.

Measured forward and backward on one core, d 512, K 5: packed takes 0.74 of the time of rows at 100 tokens over 49
positions, 0.91 at 400, as much at 600; over 197 positions 0.71 at 200, 0.88 at 600, 0.92 at 1,000.
"""


class Decoder(ABC):
    """A view of a Hugging Face language model that reads pictures; holds no weights of its own.

    config: that of the decoder inside `model`. head: hidden states to logits. packed_tokens: the most tokens that the
    captions of a picture, in one row, may have before rows of their own are faster; 0 where captions cannot share a
    row. Raises ValueError where the attention implementation takes no mask of our own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: PreTrainedConfig,
        head: Callable[[Tensor], Tensor],
        packed_tokens: int,
    ):
        if config._attn_implementation not in ("sdpa", "eager"):
            raise ValueError(
                f"the decoder's attention is {config._attn_implementation!r}; captions share a row under a mask of "
                "their own, which needs attn_implementation 'sdpa' or 'eager'"
            )
        self.model = model
        self.config = config
        self.packed_tokens = packed_tokens
        self._head = head

    @property
    def vocab_size(self) -> int:
        """V, the width of the logits."""
        return self.config.vocab_size

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] to logits [..., V]."""
        return self._head(hidden)

    @abstractmethod
    def begin(self, context: VisualContext) -> Cache:
        """The key-value cache that captions of these R contexts begin with."""

    def prefilled(self, context: VisualContext) -> Cache | None:
        """What scoring begins with: the cache that prefixes have run into, with gradient, or, as here, none."""
        return None

    def check_room(self, context: VisualContext, tokens: int) -> None:
        """Raises ValueError where so many tokens, fed behind these contexts, are more than the decoder has room for."""
        return None

    @abstractmethod
    def hidden(
        self,
        ids: Tensor,
        positions: Tensor,
        allowed: Tensor | None,
        context: VisualContext,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states [R, S, D] of ids [R, S] at positions [R, S] (from 0), with R contexts.

        allowed: [R or 1, 1, S, past + S], which tokens each token sees; None for plain causal attention. cache: from
        `begin`; None where all tokens of the captions are in this call.
        """

    def _mask(self, allowed: Tensor, dtype: torch.dtype) -> Tensor:
        """`allowed` (bool [R or 1, 1, S, T]) in the form that the attention implementation takes."""
        # Boolean for sdpa: an additive mask would have to follow autocast's dtype.
        if self.config._attn_implementation == "sdpa":
            return allowed
        return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)


@dataclass(frozen=True)
class Family:
    """Where a family of language models with cross-attention keeps its body, its head and its positions.

    head: of a model, hidden states to logits. packs: it takes position ids, so that several captions can share a row.
    first_position: the position id of the first token. limit: the most tokens it can be fed. config: of a model, that
    of its decoder. arguments: what its body is told beside tokens and context.
    """

    body: Callable[[Any], nn.Module]
    head: Callable[[Any], Callable[[Tensor], Tensor]]
    packs: bool
    first_position: Callable[[Any], int]
    limit: Callable[[Any], int]
    config: Callable[[Any], PreTrainedConfig] = lambda model: model.config
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _t5_head(model: Any) -> Callable[[Tensor], Tensor]:
    # The first T5, whose head is its word embedding, shrinks what goes into it; 1.1 and Flan do not.
    scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
    return lambda hidden: model.lm_head(hidden * scale)


_GPT2 = Family(
    body=lambda model: model.transformer,
    head=lambda model: model.lm_head,
    packs=True,
    first_position=lambda config: 0,
    limit=lambda config: config.n_positions,
)
_BERT = Family(
    body=lambda model: model.bert,
    head=lambda model: model.cls,
    packs=True,
    first_position=lambda config: 0,
    limit=lambda config: config.max_position_embeddings,
)
# BLIP's BERT is bidirectional unless it is told on every call that it decodes.
_BLIP = replace(_BERT, arguments={"is_decoder": True})
# RoBERTa's positions start behind the padding index.
_ROBERTA = Family(
    body=lambda model: model.roberta,
    head=lambda model: model.lm_head,
    packs=True,
    first_position=lambda config: config.pad_token_id + 1,
    limit=lambda config: config.max_position_embeddings - config.pad_token_id - 1,
)
_BART = Family(
    body=lambda model: model.model.decoder,
    head=lambda model: model.lm_head,
    packs=False,
    first_position=lambda config: 0,
    limit=lambda config: config.max_position_embeddings,
)
_FLORENCE2 = replace(
    _BART, body=lambda model: model.model.language_model.decoder, config=lambda model: model.config.text_config
)
# Relative positions know no end: the limit is the length that T5 was trained with.
_T5 = Family(
    body=lambda model: model.decoder,
    head=_t5_head,
    packs=False,
    first_position=lambda config: 0,
    limit=lambda config: 512,
)
_TROCR = Family(
    body=lambda model: model.model.decoder,
    head=lambda model: model.output_projection,
    packs=False,
    first_position=lambda config: 0,
    limit=lambda config: config.max_position_embeddings,
)
OWN_DROPOUT: dict[type[nn.Module], tuple[str, ...]] = {
    BartEncoderLayer: ("dropout", "activation_dropout"),
    BartDecoderLayer: ("dropout", "activation_dropout"),
    MBartDecoderLayer: ("dropout", "activation_dropout"),
    TrOCRDecoderLayer: ("dropout", "activation_dropout"),
    OPTDecoderLayer: ("dropout",),
}
"""Layers whose own forward applies dropout in train mode, where others leave it to their children, and its rates."""

FAMILIES = {
    "gpt2": _GPT2,
    "bert": _BERT,
    "blip_text_model": _BLIP,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "bart": _BART,
    "mbart": _BART,
    "florence2": _FLORENCE2,
    "t5": _T5,
    "trocr": _TROCR,
}


class TextDecoder(Decoder):
    """A language model with cross-attention. Raises ValueError where its type, or its attention, is not supported."""

    def __init__(self, model: PreTrainedModel):
        if model.config.model_type not in FAMILIES:
            raise ValueError(
                f"the decoder is a {model.config.model_type!r}; supported decoders are {', '.join(sorted(FAMILIES))}"
            )
        self.family = FAMILIES[model.config.model_type]
        packed = PACKED_TOKENS if self.family.packs else 0
        super().__init__(model, self.family.config(model), self.family.head(model), packed)

    @property
    def limit(self) -> int:
        """The longest caption in tokens, EOS included: the start token takes the place that EOS is not fed at."""
        return self.family.limit(self.config)

    def begin(self, context: VisualContext) -> Cache:
        """An empty cache for self- and cross-attention."""
        return EncoderDecoderCache(RoomyCache(), DynamicCache())

    def hidden(
        self,
        ids: Tensor,
        positions: Tensor,
        allowed: Tensor | None,
        context: VisualContext,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states [R, S, D] of tokens that attend to R contexts; see Decoder."""
        arguments = dict(self.family.arguments)
        if self.family.packs:
            arguments["position_ids"] = positions + self.family.first_position(self.config)
        outputs = self.family.body(self.model)(
            input_ids=ids,
            attention_mask=None if allowed is None else self._mask(allowed, context.states.dtype),
            encoder_hidden_states=context.states,
            encoder_attention_mask=context.mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **arguments,
        )
        return outputs.last_hidden_state


def self_attention(cache: Cache) -> Cache:
    """The part of a cache that the captions' own tokens are in."""
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
