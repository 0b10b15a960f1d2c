"""BLIP-2 with T5, and with OPT."""

from typing import Any

import torch
from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, OPTConfig

from captioners import Blip2OPT, Blip2T5
from captioners.tokenizer import train_tokenizer
from tiny.material import CAPTIONS, GRID, TOWER, VOCAB, hub_tokenizer, image_processor, special_ids

QUERIES = 3


def _blip2(
    text: Any, image_token: int, *, layers: int, initializer_range: float, dropout: float
) -> Blip2ForConditionalGeneration:
    """A ViT of 5 positions and a Q-Former of `layers` each, and the language model that `text` configures."""
    config = Blip2Config(
        vision_config={**TOWER, **GRID, "num_hidden_layers": layers, "initializer_range": initializer_range},
        qformer_config={
            **TOWER,
            "num_hidden_layers": layers,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "initializer_range": 0.3,
        },
        text_config=text,
        num_query_tokens=QUERIES,
        image_token_index=image_token,
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    return model


def tiny_blip2_t5(
    *, max_frames: int = 1, prompt: str | None = None, dropout: float = 0.1, flan: bool = True, seed: int = 0
) -> Blip2T5:
    """A ViT of 5 positions, a Q-Former of 3 queries, and a T5 of 2 + 2 layers, of the kind of Flan or of the first."""
    torch.manual_seed(seed)
    tokenizer = hub_tokenizer("")
    text = {
        "model_type": "t5",
        "vocab_size": VOCAB,
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 2,
        "dropout_rate": dropout,
        "feed_forward_proj": "gated-gelu" if flan else "relu",
        "tie_word_embeddings": not flan,
        "decoder_start_token_id": tokenizer.pad_token_id,
        **special_ids(tokenizer),
    }
    # The token for pictures is the one that the processor adds.
    model = _blip2(text, len(tokenizer), layers=1, initializer_range=0.3, dropout=dropout)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.25)
    processor = Blip2Processor(image_processor(), tokenizer, num_query_tokens=QUERIES)
    return Blip2T5(model, processor, max_frames, prompt).eval()


def tiny_blip2_opt(*, max_frames: int = 1, dropout: float = 0.1, prompt: str | None = None, seed: int = 0) -> Blip2OPT:
    """A ViT of 5 positions, 3 queries and an OPT of 36 positions: at most 33 tokens a caption of a picture."""
    torch.manual_seed(seed)
    # The processor adds a token for pictures to the words.
    processor = Blip2Processor(image_processor(), train_tokenizer(CAPTIONS, VOCAB - 1), num_query_tokens=QUERIES)
    text = OPTConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        word_embed_proj_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=48,
        max_position_embeddings=36,
        dropout=dropout,
        attention_dropout=dropout,
        init_std=0.3,
        **special_ids(processor.tokenizer),
    )
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    model = _blip2(text, image_token, layers=2, initializer_range=0.1, dropout=dropout)
    torch.nn.init.normal_(model.language_projection.weight, std=0.3)
    return Blip2OPT(model, processor, max_frames, prompt).eval()
