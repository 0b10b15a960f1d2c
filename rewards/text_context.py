"""How many tokens a text encoder reads."""

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NO_END = 512  # of encoders with relative positions, such as T5: the length that it was trained with


def text_context(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens of a text, special ones included, by the encoder's positions and by its tokenizer's limit.

    Encoders that count positions from behind the padding index (RoBERTa, MPNet, CamemBERT) have fewer than
    `max_position_embeddings` says: their table of positions has a padding index of its own.
    """
    positions = getattr(encoder.config, "max_position_embeddings", _NO_END)
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return int(min(positions, tokenizer.model_max_length))
