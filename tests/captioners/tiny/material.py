"""What all tiny captioners are made of: captions, pictures, processors, and the sizes of a small ViT."""

import numpy as np
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, ViTConfig, ViTImageProcessor

from captioners.tokenizer import train_tokenizer

CAPTIONS = [
    "A dog runs across the green grass.",
    "Two children play with a red ball on the beach.",
    "A man in a blue t-shirt rides a bicycle.",
    "The dog's ball is red.",
    "A woman stands near the blue water.",
]
SIDE = 16
VOCAB = 360
# The vision towers of the models that have one of their own: a ViT of 5 positions.
GRID = {"image_size": SIDE, "patch_size": 8}
TOWER = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}


def pictures(number: int, seed: int = 0) -> list[Image.Image]:
    """Random pictures that differ from each other."""
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(number)]


def image_processor() -> ViTImageProcessor:
    """Pictures of SIDE x SIDE, as they are."""
    return ViTImageProcessor(size={"height": SIDE, "width": SIDE})


def vit_config() -> ViTConfig:
    """A ViT of two layers and 5 positions."""
    return ViTConfig(**TOWER, **GRID, num_hidden_layers=2)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """A tokenizer's ids as configurations take them."""
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def hub_tokenizer(begins: str = "<bos>", **extra: str) -> PreTrainedTokenizerFast:
    """A tokenizer as published checkpoints have them: it puts `begins` and <eos> around a text."""
    words = train_tokenizer(CAPTIONS, VOCAB - 1).backend_tokenizer
    ids = {name: words.token_to_id(name) for name in ("<bos>", "<eos>")}
    words.post_processor = TemplateProcessing(single=f"{begins} $A <eos>".strip(), special_tokens=list(ids.items()))
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, extra_special_tokens=extra, **names)
