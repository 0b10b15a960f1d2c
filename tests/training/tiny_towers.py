"""Dual encoders and towers small enough to learn drawn scenes in seconds, with a tokenizer of whole words."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
    ViTImageProcessor,
)

SPECIAL = ["<pad>", "<s>", "</s>"]
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
LENGTH = 40


def clip(folder: Path, captions: Sequence[str], seed: int = 0) -> Path:
    """A random CLIP for 32 x 32 pixels that knows the words of the captions."""
    torch.manual_seed(seed)
    tokenizer = _words(captions)
    text = {**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    ends = {"bos_token_id": 1, "eos_token_id": len(tokenizer) - 1, "pad_token_id": 0}
    picture = {**SIZES, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config={**text, **ends}, vision_config=picture, projection_dim=32))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def towers(folder: Path, captions: Sequence[str]) -> tuple[Path, Path]:
    """Folders of a random ResNet (vectors of 24) and of a random BERT without pooler."""
    torch.manual_seed(5)
    pictures, sentences = folder / "resnet", folder / "bert"
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 24], "depths": [1, 1], "layer_type": "basic"}
    ResNetModel(ResNetConfig(**sizes)).save_pretrained(pictures)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(pictures)
    tokenizer = _words(captions)
    config = BertConfig(**SIZES, vocab_size=len(tokenizer), max_position_embeddings=LENGTH, pad_token_id=0)
    BertModel(config, add_pooling_layer=False).save_pretrained(sentences)
    tokenizer.save_pretrained(sentences)
    return pictures, sentences


def _words(captions: Sequence[str]) -> PreTrainedTokenizerFast:
    normalizer, split = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    words = {word for caption in captions for word, _ in split.pre_tokenize_str(caption.lower())}
    vocabulary = [*SPECIAL[:2], *sorted(words), SPECIAL[2]]  # CLIP reads at the end, which it finds by its id
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<pad>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, split
    ends = [("<s>", 1), ("</s>", len(vocabulary) - 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=LENGTH
    )
