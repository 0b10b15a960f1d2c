"""A ViT with decoders of the families that VisionEncoderDecoderModel takes."""

import torch
from transformers import (
    BartConfig,
    BertConfig,
    GPT2Config,
    PretrainedConfig,
    RobertaConfig,
    TrOCRConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

from captioners import EncoderDecoder
from captioners.tokenizer import train_tokenizer
from tiny.material import CAPTIONS, VOCAB, image_processor, special_ids, vit_config


def _decoder_config(name: str, special: dict[str, int], dropout: float) -> PretrainedConfig:
    common = {"is_decoder": True, "add_cross_attention": True, **special}
    if name == "gpt2":
        rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
        return GPT2Config(
            vocab_size=VOCAB, n_positions=24, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, **rates, **common
        )
    if name in ("bert", "roberta"):
        family, extra = (BertConfig, 0) if name == "bert" else (RobertaConfig, special["pad_token_id"] + 1)
        return family(
            vocab_size=VOCAB,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=24 + extra,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.3,
            **common,
        )
    family = {"bart": BartConfig, "trocr": TrOCRConfig}[name]
    return family(
        vocab_size=VOCAB,
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=48,
        max_position_embeddings=24,
        dropout=dropout,
        init_std=0.3,
        **common,
    )


def tiny_encoder_decoder(
    decoder: str = "gpt2", *, max_frames: int = 1, dropout: float = 0.1, attention: str = "sdpa", seed: int = 0
) -> EncoderDecoder:
    """A ViT of 5 positions with a decoder of one of the supported families; at most 24 tokens a caption."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(CAPTIONS, VOCAB)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        vit_config(), _decoder_config(decoder, special_ids(tokenizer), dropout)
    )
    # TrOCR knows eager attention only.
    config._attn_implementation = "eager" if decoder == "trocr" else attention
    model = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return EncoderDecoder(model, tokenizer, image_processor(), max_frames).eval()
