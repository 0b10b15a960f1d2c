"""A grid transformer on a ResNet or a ViT."""

import tempfile
from pathlib import Path

import torch
from transformers import ResNetConfig, ResNetModel, ViTModel

from captioners import GridTransformer, GridTransformerConfig
from tiny.material import CAPTIONS, VOCAB, image_processor, vit_config


def tiny_grid_transformer(
    vision: str = "resnet", *, max_frames: int = 1, dropout: float = 0.1, seed: int = 0
) -> GridTransformer:
    """A ResNet (BatchNorm, 4 positions) or a ViT (5 positions) under a 1 + 2 layer Transformer; limit 24 tokens."""
    torch.manual_seed(seed)
    if vision == "resnet":
        model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    else:
        model = ViTModel(vit_config())
    sizes = GridTransformerConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        ffn=48,
        dropout=dropout,
        max_tokens=24,
        max_frames=max_frames,
        vocab_size=VOCAB,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        image_processor().save_pretrained(folder)
        captioner = GridTransformer.create(Path(folder), CAPTIONS, sizes)
    with torch.no_grad():
        # Larger than the usual initialisation, so that pictures and tokens make a difference that tests can see.
        for parameter in captioner.transformer.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    return captioner
