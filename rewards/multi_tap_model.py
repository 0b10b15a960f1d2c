"""A vision-language model with a rating head, stage 1 of MULTI-TAP (arXiv 2510.00766), and its directory.

config, weights and processor of the LVLM, as transformers writes them
rating_head.safetensors    weight [1, H], bias [1]
multi_tap.json             prompt, scale of the ratings, what the base model was
objectives.safetensors     stage 2, where it was fitted
"""

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, PreTrainedModel

from rewards.multi_tap_prompt import PROMPT, RatingPrompt
from rewards.whole import load_head, load_whole, save_head

SETTINGS_FILE = "multi_tap.json"
HEAD_FILE = "rating_head.safetensors"


@dataclass(frozen=True)
class RatingSettings:
    """What a rating model was trained with: the request it reads, the ends of the rating scale, the base model."""

    prompt: str = PROMPT
    lowest: float = 0.0
    highest: float = 1.0
    base_model: str = ""

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise ValueError(f"multi-tap: ratings go from {self.lowest} to {self.highest}; the first must be the lower")

    def scaled(self, rating: float) -> float:
        """A rating on the scale [0, 1]."""
        return (rating - self.lowest) / (self.highest - self.lowest)


def last_real_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The state [B, H] of the last position that is no padding, from states [B, L, H] and their mask [B, L].

    Whatever side is padded. The published code takes position -1, which is padding where the right side is padded.
    Raises ValueError where the model gave states of another length than its input, or a row is nothing but padding.
    """
    if hidden.shape[:2] != attention_mask.shape:
        raise ValueError(
            f"multi-tap: the model read {tuple(attention_mask.shape)} tokens and gave states of {tuple(hidden.shape)}; "
            "it takes in its pictures behind the tokenizer's back, so its last token cannot be told"
        )
    mask = attention_mask.bool()
    if not mask.any(1).all():
        raise ValueError("multi-tap: a row has no real token")
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, positions, -1).max(1).values
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


class RatingModel(nn.Module):
    """An LVLM whose last real token's final hidden state is rated by one linear unit and a sigmoid.

    The head's weights start at N(0, 1 / (H + 1)), its bias at 0, as in the published code; it is kept in float32.
    """

    def __init__(self, lvlm: PreTrainedModel, settings: RatingSettings, prompt: RatingPrompt) -> None:
        super().__init__()
        self.lvlm = lvlm
        self.settings = settings
        self.prompt = prompt
        hidden = lvlm.config.get_text_config().hidden_size
        self.head = nn.Linear(hidden, 1)
        nn.init.normal_(self.head.weight, std=1 / math.sqrt(hidden + 1))
        nn.init.zeros_(self.head.bias)

    @classmethod
    def create(
        cls, path: str | Path, *, settings: RatingSettings | None = None, dtype: torch.dtype = torch.float32
    ) -> "RatingModel":
        """A base model with a new head. Raises ValueError where weights are missing or have another shape."""
        settings = settings or RatingSettings(base_model=str(path))
        lvlm = load_whole(AutoModelForImageTextToText, path, "an image-text-to-text model", dtype=dtype)
        return cls(lvlm, settings, RatingPrompt.from_pretrained(path, settings.prompt, context_of(lvlm)))

    @classmethod
    def load(cls, path: str | Path, *, dtype: torch.dtype = torch.float32) -> "RatingModel":
        """A trained model from its directory. Raises ValueError, by name, where something is missing or misfits."""
        directory = Path(path)
        settings_file, head_file = directory / SETTINGS_FILE, directory / HEAD_FILE
        for file in (settings_file, head_file):
            if not file.is_file():
                raise ValueError(f"multi-tap: {file} is missing; {path} was not written by `rlcap reward multi-tap`")
        try:
            settings = RatingSettings(**json.loads(settings_file.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"multi-tap: {settings_file} cannot be read: {error}") from error
        model = cls.create(directory, settings=settings, dtype=dtype)
        load_head(model.head, head_file)
        return model.eval()

    def save(self, directory: Path) -> None:
        """Writes everything that `load` reads, except for stage 2; with LoRA merged, which is then of float32."""
        state = exported_state(self.lvlm)
        self.lvlm.save_pretrained(directory, state_dict=state)
        config = deepcopy(self.lvlm.config)
        config.dtype = next(own.dtype for own in state.values() if own.is_floating_point())
        config.save_pretrained(directory)  # transformers writes the type that the model computes in
        self.prompt.processor.save_pretrained(directory)
        save_head(self.head, directory / HEAD_FILE)
        text = json.dumps(asdict(self.settings), indent=1, ensure_ascii=False)
        (directory / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")

    def add_lora(self, targets: Sequence[str], rank: int, alpha: float, dropout: float) -> None:
        """Puts LoRA (peft) beside the layers of these names, of text and vision; it alone trains then, in float32.

        Raises ValueError where there is no such layer.
        """
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # a number, whatever its type
            lora_dropout=dropout,
            target_modules=list(targets),
        )
        try:
            inject_adapter_in_model(config, self.lvlm.base_model)
        except ValueError as error:
            raise ValueError(f"multi-tap: lora_targets is {list(targets)}: {error}") from error
        for name, parameter in self.lvlm.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.head.weight.device

    def embed(self, **inputs: Tensor) -> Tensor:
        """The embedding [B, H] of B captions with their pictures, float32. Inputs are those of the prompt."""
        # The model without its vocabulary: logits of a long caption would take more memory than all else.
        output = self.lvlm.base_model(**inputs, use_cache=False, return_dict=True)
        hidden = output.get("last_hidden_state")
        if hidden is None:
            raise ValueError(
                f"multi-tap: a {type(self.lvlm).__name__} has no last hidden state of text and picture together; take "
                "a decoder-only model, such as Qwen2-VL, LLaVA or SmolVLM"
            )
        return last_real_token(hidden, inputs["attention_mask"]).float()

    def rate(self, embeddings: Tensor) -> Tensor:
        """Ratings [B] in (0, 1) from embeddings [B, H]."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.head(embeddings).squeeze(1).sigmoid()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Ratings [B] in (0, 1); no gradient reaches an LVLM that is frozen."""
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in self.lvlm.parameters())
        with torch.set_grad_enabled(trains):
            embeddings = self.embed(**inputs)
        return self.rate(embeddings)

    def activation_checkpointing_enable(self, **options: object) -> None:
        """Computes the LVLM's activations anew in the backward pass (Trainer's key `activation_checkpointing`)."""
        self.lvlm.activation_checkpointing_enable(**options)  # type: ignore[arg-type]
        if not all(p.requires_grad for p in self.lvlm.parameters()):
            self.lvlm.enable_input_require_grads()


def exported_state(lvlm: PreTrainedModel) -> dict[str, Tensor]:
    """The weights under their plain names, LoRA's share added in, so that a saved model is a plain checkpoint.

    Where there is LoRA all are float32: it was trained so, and bfloat16 would round most of what it learned away.
    """
    from peft.tuners.lora import LoraLayer

    state = {name.replace(".base_layer.", "."): t for name, t in lvlm.state_dict().items() if ".lora_" not in name}
    layers: dict[str, Any] = {name: module for name, module in lvlm.named_modules() if isinstance(module, LoraLayer)}
    if layers:
        state = {name: own.float() if own.is_floating_point() else own for name, own in state.items()}
    for name, module in layers.items():
        state[f"{name}.weight"] = state[f"{name}.weight"] + module.get_delta_weight("default").float()
    return state


def context_of(lvlm: PreTrainedModel) -> int | None:
    """The most tokens that a model reads, where its configuration says so."""
    return getattr(lvlm.config.get_text_config(), "max_position_embeddings", None)
