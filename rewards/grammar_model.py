"""A head on a text encoder that tells real captions from broken ones, and its directory.

encoder/                 weights and tokenizer of the text encoder, as transformers writes them
grammar_head.safetensors
grammar.json             what it was trained on
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from rewards import ptb
from rewards.text_context import text_context
from rewards.whole import load_head, load_whole, save_head

SETTINGS_FILE = "grammar.json"
HEAD_FILE = "grammar_head.safetensors"
ENCODER = "encoder"


@dataclass(frozen=True)
class GrammarSettings:
    """What a grammar head was trained with: the encoder it began from, the head's width, the tokenizer of words."""

    base_model: str
    width: int = 512
    words: str = ptb.VERSION


def normal_form(caption: str) -> str:
    """The caption as the head reads it: PTB tokens, lower case and without punctuation, so that typing counts for
    nothing: training captions have capitals and full stops, sampled ones have not."""
    return " ".join(ptb.tokenize(caption))


class GrammarModel(nn.Module):
    """Linear -> ReLU -> Linear on the mean over a caption's tokens of every hidden state of a text encoder.

    The published head (CLIP-Caption-Reward) has no biases and reads CLIP's text pooler, which it fine-tunes. All layers
    are read here, because the last one of a frozen sentence encoder says little of the order of words; each is
    normalised first, since their scales differ.
    """

    def __init__(self, encoder: PreTrainedModel, tokenizer: Any, settings: GrammarSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.settings = settings
        config = encoder.config
        self.layers = config.num_hidden_layers + 1
        self.head = nn.Sequential(
            nn.Linear(self.layers * config.hidden_size, settings.width, bias=False),
            nn.ReLU(),
            nn.Linear(settings.width, 2, bias=False),
        )
        self.context = text_context(encoder, tokenizer)

    @classmethod
    def create(cls, path: str | Path, settings: GrammarSettings | None = None) -> "GrammarModel":
        """A text encoder (of a dual encoder such as CLIP its text tower) with a new head.

        Raises ValueError where the weights of the encoder are missing or do not fit.
        """
        try:
            config = AutoConfig.from_pretrained(path).get_text_config()
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} could not be loaded as a text encoder: {error}") from error
        encoder = load_whole(AutoModel, path, "a text encoder", unread=lambda name: "pooler" in name, config=config)
        return cls(encoder, tokenizer, settings or GrammarSettings(str(path)))

    @classmethod
    def load(cls, path: str | Path) -> "GrammarModel":
        """A trained model from its directory. Raises ValueError, by name, where something is missing or misfits."""
        directory = Path(path)
        settings_file, head_file = directory / SETTINGS_FILE, directory / HEAD_FILE
        for file in (settings_file, head_file):
            if not file.is_file():
                raise ValueError(f"grammar: {file} is missing; {path} was not written by `rlcap reward grammar`")
        try:
            settings = GrammarSettings(**json.loads(settings_file.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"grammar: {settings_file} cannot be read: {error}") from error
        if settings.words != ptb.VERSION:
            raise ValueError(
                f"grammar: {path} was trained on words of {settings.words}, and this is {ptb.VERSION}: train it again"
            )
        model = cls.create(directory / ENCODER, settings)
        load_head(model.head, head_file)
        return model.eval()

    def save(self, directory: Path) -> None:
        """Writes everything that `load` reads."""
        self.encoder.save_pretrained(directory / ENCODER)
        self.tokenizer.save_pretrained(directory / ENCODER)
        save_head(self.head, directory / HEAD_FILE)
        text = json.dumps(asdict(self.settings), indent=1, ensure_ascii=False)
        (directory / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")

    def train(self, mode: bool = True) -> "GrammarModel":
        """Training mode for what trains; an encoder that is frozen stays without dropout."""
        super().train(mode)
        if not any(p.requires_grad for p in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def tokenize(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """The encoder's inputs for captions in their normal form; past the encoder's context they are cut off."""
        tokens = self.tokenizer(
            list(captions), padding=True, truncation=True, max_length=self.context, return_tensors="pt"
        )
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, layers x H]: of each layer the mean over the real tokens, with mean 0 and variance 1 over its H."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        mask = attention_mask[:, :, None].to(output.hidden_states[0].dtype)
        means = [(states * mask).sum(1) / mask.sum(1) for states in output.hidden_states]
        return torch.cat([nn.functional.layer_norm(mean, mean.shape[1:]) for mean in means], dim=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, 2] of (broken, real); no gradient reaches an encoder that is frozen."""
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())
        with torch.set_grad_enabled(trains):
            features = self.features(input_ids, attention_mask)
        return self.head(features)
