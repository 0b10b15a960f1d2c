"""Policies: anything that maps one visual input and K captions to per-token scores [B, K, L].

Knows nothing of rewards or of rlcap.
"""

from captioners.base import PARTS, Captioner
from captioners.blip import Blip
from captioners.blip2_opt import Blip2OPT
from captioners.blip2_t5 import Blip2T5
from captioners.chat import Chat
from captioners.encoder_decoder import EncoderDecoder
from captioners.florence2 import Florence2
from captioners.git import Git
from captioners.grid_transformer import GridTransformer, GridTransformerConfig
from captioners.grids import GridCaptioner
from captioners.loading import load
from captioners.lora import LoraSettings
from captioners.types import CaptionTokens, GenerationSettings, TokenScores, VisualContext

__all__ = [
    "PARTS",
    "Blip",
    "Blip2OPT",
    "Blip2T5",
    "CaptionTokens",
    "Captioner",
    "Chat",
    "EncoderDecoder",
    "Florence2",
    "GenerationSettings",
    "Git",
    "GridCaptioner",
    "GridTransformer",
    "GridTransformerConfig",
    "LoraSettings",
    "TokenScores",
    "VisualContext",
    "load",
]
