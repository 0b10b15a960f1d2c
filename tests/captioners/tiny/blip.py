"""BLIP."""

import torch
from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor

from captioners import Blip
from tiny.material import GRID, TOWER, VOCAB, hub_tokenizer, image_processor, special_ids


def tiny_blip(*, max_frames: int = 1, prompt: str | None = None, dropout: float = 0.1, seed: int = 0) -> Blip:
    """A ViT of 5 positions under a BERT of two layers; at most 26 tokens, those of the prompt among them."""
    torch.manual_seed(seed)
    tokenizer = hub_tokenizer()
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 26,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "initializer_range": 0.3,
        "sep_token_id": tokenizer.eos_token_id,
        **special_ids(tokenizer),
    }
    vision = {**TOWER, **GRID, "num_hidden_layers": 1, "initializer_range": 0.3}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, initializer_range=0.3))
    return Blip(model, BlipProcessor(image_processor(), tokenizer), max_frames, prompt).eval()
