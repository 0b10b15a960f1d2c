"""The frozen halves of the scorer: a picture and a sentence to one vector each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BaseImageProcessor,
    CLIPTextModel,
    CLIPVisionModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
    T5EncoderModel,
)

from rewards.fingerprint import fingerprint
from rewards.text_context import text_context
from rewards.whole import load_whole

POOLINGS = ("mean", "first", "pooler")
# Of models with two towers, or a decoder, the part that is asked for.
_PICTURE_TOWERS: dict[str, Any] = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
_SENTENCE_TOWERS: dict[str, Any] = {"clip": CLIPTextModel, "t5": T5EncoderModel}


class FrozenEncoder(nn.Module):
    """A `transformers` model that never trains: always in eval mode, without gradients, in float32."""

    def __init__(self, model: PreTrainedModel, pooling: str) -> None:
        super().__init__()
        self.model = model.float().requires_grad_(False)
        self.pooling = pooling
        self.eval()

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in eval mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.model.device

    def fingerprint(self) -> str:
        """A hash of the weights and of how they are pooled: "sha256:…"."""
        return fingerprint(self.model, self.pooling)


class PictureEncoder(FrozenEncoder):
    """Pictures to vectors by any vision model of `transformers`; of CLIP and SigLIP by the vision tower."""

    def __init__(self, model: PreTrainedModel, processor: BaseImageProcessor, pooling: str = "mean") -> None:
        super().__init__(model, pooling)
        self.processor = processor

    @classmethod
    def from_pretrained(cls, path: str | Path, pooling: str = "mean") -> "PictureEncoder":
        """Loads a directory or Hub id.

        pooling: `mean` over the positions of the last hidden state (of a ResNet its own pooled features), `first`
        position (the CLS token of a ViT), or `pooler`, the model's own pooled output. Raises ValueError where the model
        takes no pictures, or where weights that the vector depends on are missing.
        """
        model = _load(_PICTURE_TOWERS, path, pooling)
        if model.main_input_name != "pixel_values":
            raise ValueError(f"{path} is a {model.config.model_type!r} model, which does not take pictures alone")
        return cls(model, _beside(AutoImageProcessor, path, "image processor"), pooling)

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tensor:
        """M pictures of any mode as pixels [M, 3, H, W]."""
        rgb = [picture.convert("RGB") for picture in pictures]
        return self.processor(images=rgb, return_tensors="pt")["pixel_values"]

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [M, 3, H, W] to vectors [M, P]."""
        output = self.model(pixel_values=pixels.to(self.device, torch.float32))
        if self.pooling == "pooler":
            return _pooled(output).flatten(1)  # ResNets keep a map of one position
        states = output.last_hidden_state
        if states.ndim == 4:  # a convolutional model: [M, C, H, W], which has no first position
            states = states.flatten(2).transpose(1, 2)
        return states.mean(1) if self.pooling == "mean" else states[:, 0]

    def save_pretrained(self, directory: Path) -> None:
        """Writes model and image processor, in the layout of `transformers`."""
        self.model.save_pretrained(directory)
        self.processor.save_pretrained(directory)


class SentenceEncoder(FrozenEncoder):
    """Sentences to vectors of length 1 by any text encoder of `transformers`, as sentence-transformers does.

    A directory of sentence-transformers is read as its Transformer, with the pooling given here.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: str = "mean") -> None:
        super().__init__(model, pooling)
        self.tokenizer = tokenizer
        self.max_tokens = text_context(model, tokenizer)

    @classmethod
    def from_pretrained(cls, path: str | Path, pooling: str = "mean") -> "SentenceEncoder":
        """Loads a directory or Hub id; pooling as of PictureEncoder, over the real tokens.

        Raises ValueError where the model takes no text, or where weights that the vector depends on are missing.
        """
        model = _load(_SENTENCE_TOWERS, path, pooling)
        # SigLIP's text tower reads its padding: it is not among the towers, and no other model of two is.
        if model.main_input_name != "input_ids" or "vision_config" in model.config.to_dict():
            raise ValueError(f"{path} is a {model.config.model_type!r} model, which does not take text alone")
        return cls(model, _beside(AutoTokenizer, path, "tokenizer"), pooling)

    @torch.inference_mode()
    def forward(self, sentences: Sequence[str]) -> Tensor:
        """Sentences to vectors [C, S] of length 1; what is longer than the model's context is cut."""
        tokens = self.tokenizer(
            list(sentences), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        output = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        if self.pooling == "pooler":
            vectors = _pooled(output)
        elif self.pooling == "first":
            first = tokens["attention_mask"].argmax(1)  # padding may stand in front
            vectors = output.last_hidden_state[torch.arange(len(first), device=self.device), first]
        else:
            mask = tokens["attention_mask"][..., None].to(torch.float32)
            vectors = (output.last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1)
        return nn.functional.normalize(vectors, dim=-1)

    def save_pretrained(self, directory: Path) -> None:
        """Writes model and tokenizer, in the layout of `transformers`."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def _load(towers: dict[str, Any], path: str | Path, pooling: str) -> PreTrainedModel:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; it can be {', '.join(POOLINGS)}")
    try:
        model_class = towers.get(AutoConfig.from_pretrained(path).model_type, AutoModel)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} could not be loaded: {error}") from error
    # Many checkpoints lack a pooler: no matter where it is not read.
    return load_whole(
        model_class, path, "an encoder", unread=lambda name: pooling != "pooler" and name.startswith("pooler.")
    )


def _beside(processor_class: Any, path: str | Path, what: str) -> Any:
    try:
        return processor_class.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} has no {what}: {error}") from error


def _pooled(output: Any) -> Tensor:
    pooled = output.get("pooler_output")
    if pooled is None:
        raise ValueError("pooling is 'pooler', but this model has no pooled output; choose 'mean' or 'first'")
    return pooled
