"""Florence-2."""

import torch
from transformers import CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

from captioners import Florence2
from tiny.material import SIDE, VOCAB, hub_tokenizer, special_ids


def tiny_florence2(*, max_frames: int = 1, prompt: str | None = None, dropout: float = 0.1, seed: int = 0) -> Florence2:
    """A DaViT of 2 x 2 positions, which the projector makes 5, and a BART of 1 + 2 layers; at most 39 tokens."""
    torch.manual_seed(seed)
    tokenizer = hub_tokenizer(image_token="<image>")
    vision = {
        "depths": [1, 1],
        "patch_size": [3, 3],
        "patch_stride": [4, 2],
        "patch_padding": [1, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [8, 16],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "window_size": 2,
        "projection_dim": 32,
        "max_temporal_embeddings": 2,
        "max_position_embeddings": 2,
        "initializer_range": 0.3,
        "drop_path_rate": dropout,
    }
    text = {
        "model_type": "bart",
        "vocab_size": VOCAB,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 40,
        "dropout": dropout,
        "init_std": 0.3,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None,
        **special_ids(tokenizer),
    }
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id)
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.decoder_start_token_id = tokenizer.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.forced_bos_token_id = tokenizer.bos_token_id
    processor = CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    processor.image_seq_length = 5
    return Florence2(model, Florence2Processor(processor, tokenizer), max_frames, prompt).eval()
