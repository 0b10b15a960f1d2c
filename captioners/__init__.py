"""Policies: anything that maps one visual input and K captions to per-token scores [B, K, L].

Knows nothing of rewards or of rlcap.
"""

from captioners.base import PARTS, Captioner
from captioners.encoder_decoder import EncoderDecoder
from captioners.grid_transformer import GridTransformer, GridTransformerConfig
from captioners.loading import load
from captioners.types import CaptionTokens, GenerationSettings, TokenScores, VisualContext

__all__ = [
    "PARTS",
    "CaptionTokens",
    "Captioner",
    "EncoderDecoder",
    "GenerationSettings",
    "GridTransformer",
    "GridTransformerConfig",
    "TokenScores",
    "VisualContext",
    "load",
]
