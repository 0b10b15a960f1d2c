"""Text encoders small enough to be built in a test, with random weights, as directories to load from."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "green",
    "circle",
    "square",
    "star",
    "is",
    "in",
    "on",
    "left",
    "right",
    "of",
    "and",
    "two",
    "small",
    "large",
]
SPECIAL = ["[PAD]", "[UNK]", "[EOS]"]
SIZE: dict[str, Any] = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}


def bert(directory: Path) -> Path:
    """Two layers of 32 dimensions, 24 positions."""
    return _saved(BertModel(BertConfig(**SIZE)), directory)


def roberta(directory: Path) -> Path:
    """24 positions as well, of which the first is that of the padding."""
    return _saved(RobertaModel(RobertaConfig(**SIZE, pad_token_id=0)), directory)


def clip(directory: Path) -> Path:
    """A whole CLIP, of which the text tower counts."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = {"vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 24, "eos_token_id": 2, **sizes}
    config = CLIPConfig(text_config=text, vision_config={"image_size": 16, "patch_size": 8, **sizes}, projection_dim=16)
    return _saved(CLIPModel(config), directory)


BUILDERS = {"bert": bert, "roberta": roberta, "clip": clip}


def _saved(model: PreTrainedModel, directory: Path) -> Path:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", model_max_length=1000
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
