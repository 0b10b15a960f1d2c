"""Captioners small enough to be built afresh in every test, with random weights; a module an architecture."""

from tiny.blip import tiny_blip
from tiny.blip2 import tiny_blip2_opt, tiny_blip2_t5
from tiny.chat import tiny_idefics3, tiny_llava, tiny_llava_next, tiny_llava_onevision, tiny_qwen2_vl
from tiny.encoder_decoder import tiny_encoder_decoder
from tiny.florence2 import tiny_florence2
from tiny.git import tiny_git
from tiny.grid_transformer import tiny_grid_transformer
from tiny.inside import favour_end, in_first_decoder_layer, lay_out, vision_rows
from tiny.material import CAPTIONS, SIDE, VOCAB, pictures

CAPTIONERS = {
    "vit-gpt2": lambda **options: tiny_encoder_decoder("gpt2", **options),
    "vit-bert": lambda **options: tiny_encoder_decoder("bert", **options),
    "grid-resnet": lambda **options: tiny_grid_transformer("resnet", **options),
    "grid-vit": lambda **options: tiny_grid_transformer("vit", **options),
    "blip": tiny_blip,
    "blip-prompt": lambda **options: tiny_blip(prompt="a dog", **options),
    "florence2": tiny_florence2,
    "blip2-t5": tiny_blip2_t5,
    "git": tiny_git,
    "blip2-opt": tiny_blip2_opt,
    "blip2-opt-prompt": lambda **options: tiny_blip2_opt(prompt="a man", **options),
}
CHATS = {"qwen2-vl": tiny_qwen2_vl, "idefics3": tiny_idefics3, "llava": tiny_llava}
ALL_CAPTIONERS = {**CAPTIONERS, **CHATS}

__all__ = [
    "ALL_CAPTIONERS",
    "CAPTIONERS",
    "CAPTIONS",
    "CHATS",
    "SIDE",
    "VOCAB",
    "favour_end",
    "in_first_decoder_layer",
    "lay_out",
    "pictures",
    "tiny_blip",
    "tiny_blip2_opt",
    "tiny_blip2_t5",
    "tiny_encoder_decoder",
    "tiny_florence2",
    "tiny_git",
    "tiny_grid_transformer",
    "tiny_idefics3",
    "tiny_llava",
    "tiny_llava_next",
    "tiny_llava_onevision",
    "tiny_qwen2_vl",
    "vision_rows",
]
