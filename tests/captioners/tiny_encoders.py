"""Frozen encoders of a learned reward, small and random, in the layout of `transformers`."""

from pathlib import Path

import torch
from tiny import CAPTIONS
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessor, ViTModel

from captioners.tokenizer import train_tokenizer

PICTURE_SIZE, SENTENCE_SIZE = 24, 16


def tiny_encoders(folder: Path, kind: str = "resnet") -> tuple[Path, Path]:
    """Folders of a ResNet or ViT (vectors of 24) and of a BERT without pooler (vectors of 16)."""
    torch.manual_seed(5)
    pictures, sentences = folder / kind, folder / "bert"
    if kind == "resnet":
        sizes = {"embedding_size": 8, "hidden_sizes": [8, PICTURE_SIZE], "depths": [1, 1], "layer_type": "basic"}
        ResNetModel(ResNetConfig(**sizes)).save_pretrained(pictures)
    else:
        sizes = {"hidden_size": PICTURE_SIZE, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
        config = ViTConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)
        ViTModel(config, add_pooling_layer=False).save_pretrained(pictures)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(pictures)
    tokenizer = train_tokenizer(CAPTIONS, 300)
    tokenizer.save_pretrained(sentences)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=SENTENCE_SIZE,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(sentences)
    return pictures, sentences
