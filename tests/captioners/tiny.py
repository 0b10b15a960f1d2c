"""Captioners small enough to be built afresh in every test, with random weights."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BertConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GitConfig,
    GitForCausalLM,
    GPT2Config,
    OPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
    RobertaConfig,
    TrOCRConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from captioners import (
    Blip,
    Blip2OPT,
    Blip2T5,
    Captioner,
    EncoderDecoder,
    Florence2,
    Git,
    GridTransformer,
    GridTransformerConfig,
)
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


def pictures(number: int, seed: int = 0) -> list[Image.Image]:
    """Random pictures that differ from each other."""
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(number)]


def _processor() -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": SIDE, "width": SIDE})


def _vit_config(hidden_size: int = 24) -> ViTConfig:
    return ViTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=SIDE,
        patch_size=8,
    )


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
    special = _special(tokenizer)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        _vit_config(), _decoder_config(decoder, special, dropout)
    )
    # TrOCR knows eager attention only.
    config._attn_implementation = "eager" if decoder == "trocr" else attention
    model = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return EncoderDecoder(model, tokenizer, _processor(), max_frames).eval()


def tiny_grid_transformer(
    vision: str = "resnet", *, max_frames: int = 1, dropout: float = 0.1, seed: int = 0
) -> GridTransformer:
    """A ResNet (BatchNorm, 4 positions) or a ViT (5 positions) under a 1 + 2 layer Transformer; limit 24 tokens."""
    torch.manual_seed(seed)
    if vision == "resnet":
        model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    else:
        model = ViTModel(_vit_config())
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
        _processor().save_pretrained(folder)
        captioner = GridTransformer.create(Path(folder), CAPTIONS, sizes)
    with torch.no_grad():
        # Larger than the usual initialisation, so that pictures and tokens make a difference that tests can see.
        for parameter in captioner.transformer.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    return captioner


def _hub_tokenizer(begins: str = "<bos>", **extra: str) -> PreTrainedTokenizerFast:
    """A tokenizer as published checkpoints have them: it puts `begins` and <eos> around a text."""
    words = train_tokenizer(CAPTIONS, VOCAB - 1).backend_tokenizer
    ids = {name: words.token_to_id(name) for name in ("<bos>", "<eos>")}
    words.post_processor = TemplateProcessing(single=f"{begins} $A <eos>".strip(), special_tokens=list(ids.items()))
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, extra_special_tokens=extra, **names)


SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
PICTURES = {"image_size": SIDE, "patch_size": 8, "initializer_range": 0.3}


def tiny_blip(*, max_frames: int = 1, prompt: str | None = None, dropout: float = 0.1, seed: int = 0) -> Blip:
    """A ViT of 5 positions under a BERT of two layers; at most 26 tokens, those of the prompt among them."""
    torch.manual_seed(seed)
    tokenizer = _hub_tokenizer()
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        **{**SIZES, "num_hidden_layers": 2},
        "max_position_embeddings": 26,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "sep_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(text_config=text, vision_config={"hidden_size": 24, **SIZES, **PICTURES}, initializer_range=0.3)
    model = BlipForConditionalGeneration(config)
    return Blip(model, BlipProcessor(_processor(), tokenizer), max_frames, prompt).eval()


def tiny_florence2(*, max_frames: int = 1, prompt: str | None = None, dropout: float = 0.1, seed: int = 0) -> Florence2:
    """A DaViT of 2 x 2 positions, which the projector makes 5, and a BART of 1 + 2 layers; at most 39 tokens."""
    torch.manual_seed(seed)
    tokenizer = _hub_tokenizer(image_token="<image>")
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
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None,
    }
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id)
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.decoder_start_token_id = tokenizer.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.forced_bos_token_id = tokenizer.bos_token_id
    pictures = CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    pictures.image_seq_length = 5
    return Florence2(model, Florence2Processor(pictures, tokenizer), max_frames, prompt).eval()


def tiny_blip2_t5(
    *, max_frames: int = 1, prompt: str | None = None, dropout: float = 0.1, flan: bool = True, seed: int = 0
) -> Blip2T5:
    """A ViT of 5 positions, a Q-Former of 3 queries, and a T5 of 2 + 2 layers, of the kind of Flan or of the first."""
    torch.manual_seed(seed)
    tokenizer = _hub_tokenizer("")
    queries = {
        "hidden_size": 24,
        **SIZES,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "initializer_range": 0.3,
    }
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
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    vision = {"hidden_size": 24, **SIZES, **PICTURES}
    config = Blip2Config(
        vision_config=vision,
        qformer_config=queries,
        text_config=text,
        num_query_tokens=3,
        image_token_index=len(tokenizer),  # which its processor adds
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.25)
    return Blip2T5(model, Blip2Processor(_processor(), tokenizer, num_query_tokens=3), max_frames, prompt).eval()


def tiny_git(
    *,
    max_frames: int = 1,
    own_frames: int | None = None,
    tied: bool = False,
    dropout: float = 0.1,
    prompt: str | None = None,
    seed: int = 0,
) -> Git:
    """A ViT of 5 positions with GIT's decoder, at most 24 tokens a caption; own_frames: GIT's own video input."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(CAPTIONS, VOCAB)
    vision = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": SIDE,
        "patch_size": 8,
    }
    config = GitConfig(
        vision_config=vision,
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=24,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,
        num_image_with_embedding=own_frames,
        tie_word_embeddings=tied,
        **_special(tokenizer),
    )
    return Git(GitForCausalLM(config), tokenizer, _processor(), max_frames, prompt).eval()


def tiny_blip2_opt(*, max_frames: int = 1, dropout: float = 0.1, prompt: str | None = None, seed: int = 0) -> Blip2OPT:
    """A ViT of 5 positions, 3 queries and an OPT of 36 positions: at most 33 tokens a caption of a picture."""
    torch.manual_seed(seed)
    # The processor adds a token for pictures to the words.
    processor = Blip2Processor(_processor(), train_tokenizer(CAPTIONS, VOCAB - 1), num_query_tokens=3)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
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
        **_special(processor.tokenizer),
    )
    config = Blip2Config(
        vision_config=sizes | {"image_size": SIDE, "patch_size": 8, "initializer_range": 0.1},
        qformer_config=sizes | rates | {"initializer_range": 0.3},
        text_config=text,
        num_query_tokens=3,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    torch.nn.init.normal_(model.language_projection.weight, std=0.3)
    return Blip2OPT(model, processor, max_frames, prompt).eval()


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def favour_end(captioner: Captioner, amount: float = 4.0) -> None:
    """Flattens the distribution and raises the logit of EOS by about `amount`, so that random captions do end."""
    model = captioner._text_model()
    eos = captioner.codec.special.eos
    weight = model.get_output_embeddings().weight
    kind = model.config.model_type
    if kind == "gpt2":
        last_norm = model.transformer.ln_f
    elif kind == "florence2":
        last_norm = model.model.language_model.decoder.layers[-1].final_layer_norm
    elif kind == "t5":
        last_norm = model.decoder.final_layer_norm
    elif kind == "git":
        last_norm = model.git.encoder.layer[-1].output.LayerNorm
    elif kind == "opt":
        last_norm = model.model.decoder.final_layer_norm
    else:
        last_norm = model.cls.predictions.transform.LayerNorm
    with torch.no_grad():
        last_norm.weight *= 0.4
        if kind == "t5":
            # Its norm has no bias: the row of EOS turns to what the states have in common instead.
            states = []
            hook = last_norm.register_forward_hook(lambda module, args, output: states.append(output))
            captioner(captioner.preprocess(pictures(4)), captioner.tokenize([CAPTIONS] * 4))
            hook.remove()
            mean = states[-1].flatten(0, -2).mean(0)
            weight[eos] = amount * mean / mean.dot(mean)
        else:
            last_norm.bias += amount * weight[eos] / weight[eos].dot(weight[eos])


def lay_out(captioner: Captioner, layout: str) -> None:
    """Sets the layout; where the decoder takes no position ids, sees "packed" refused and sets "rows"."""
    captioner.layout = layout
    if layout == "packed" and captioner._text_model().config.model_type in ("florence2", "t5"):
        with pytest.raises(ValueError, match="layout 'packed' needs a decoder that takes position ids"):
            captioner(captioner.preprocess(pictures(1)), captioner.tokenize([["a dog"]]))
        captioner.layout = "rows"


def in_first_decoder_layer(captioner: Captioner) -> torch.nn.Module:
    """A module inside the text decoder's first layer, run once whenever the layer is."""
    model = captioner._text_model()
    kind = model.config.model_type
    if kind == "gpt2":
        return model.transformer.h[0].mlp
    if kind == "florence2":
        return model.model.language_model.decoder.layers[0].fc1
    if kind == "t5":
        return model.decoder.block[0].layer[-1]
    if kind == "git":
        return model.git.encoder.layer[0].intermediate
    if kind == "opt":
        return model.model.decoder.layers[0].fc1
    return model.bert.encoder.layer[0].intermediate


def vision_rows(captioner: Captioner) -> list[int]:
    """How many pictures each run of the vision tower sees from now on."""
    rows: list[int] = []
    (tower,) = captioner.parts()["vision"]
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    return rows


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
