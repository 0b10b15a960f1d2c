"""A recipe that names a vision model gets a new grid transformer of the sizes that it asks for."""

from pathlib import Path

import torch
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from captioners import GridTransformer
from rlcap.data import load_captions
from rlcap.training.arguments import CaptionerArguments
from rlcap.training.run import load_captioner


def test_a_new_captioner_has_the_sizes_of_the_recipe(scenes: Path, tmp_path: Path) -> None:
    vision = ViTConfig(
        image_size=32, patch_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    ViTModel(vision, add_pooling_layer=False).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    sizes = {"d_model": 16, "heads": 2, "ffn": 24, "encoder_layers": 1, "decoder_layers": 1}
    arguments = CaptionerArguments(vision=str(tmp_path), **sizes, vocab_size=300, max_tokens=90, max_frames=3)
    train = load_captions(scenes, split="train")

    captioner = load_captioner(arguments, train, seed=0)

    assert isinstance(captioner, GridTransformer)
    assert {name: getattr(captioner.sizes, name) for name in sizes} == sizes
    assert captioner.sizes.vocab_size <= 300
    assert captioner.codec.limit == 90
    assert captioner.sizes.max_frames == 3
    again = load_captioner(arguments, train, seed=0)
    assert all(map(torch.equal, captioner.state_dict().values(), again.state_dict().values()))
