"""Dual encoders of transformers: CLIP, SigLIP and any pair of towers as a VisionTextDualEncoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    CLIPModel,
    PreTrainedModel,
    SiglipModel,
    VisionTextDualEncoderModel,
)

from rewards.dual_encoder import DualEncoder

MODELS: dict[str, Any] = {
    "clip": CLIPModel,
    "siglip": SiglipModel,
    "vision-text-dual-encoder": VisionTextDualEncoderModel,
}
_NAMED = 5  # keys named in a message


class TransformersEncoder(DualEncoder):
    """A model of `MODELS` with its image processor and tokenizer, in eval mode.

    SigLIP reads its padding: its rows are of the whole context. CLIP is causal and the other text towers mask their
    padding, so theirs are of the longest caption's length.
    """

    model: Any

    def __init__(self, model: PreTrainedModel, processor: Any, tokenizer: Any, backbone: str) -> None:
        if type(model) not in MODELS.values():
            raise ValueError(
                f"{backbone} is a {model.config.model_type!r} model; dual encoders are {', '.join(MODELS)}"
            )
        positions = model.config.text_config.max_position_embeddings
        length = min(int(tokenizer.model_max_length), int(positions))
        super().__init__(
            _Preprocess(processor),
            _Tokenize(tokenizer, length, whole_context=isinstance(model, SiglipModel)),
            length,
            {"backbone": backbone, "transformers": transformers.__version__},
        )
        self.model = model
        self.processor = processor
        self.tokenizer = tokenizer
        self.eval()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "TransformersEncoder":
        """The dual encoder of a directory or Hub id, in float32.

        Raises ValueError where it is another kind of model, files are missing, or weights are missing, left over or of
        other shapes, naming their keys.
        """
        try:
            model_type = AutoConfig.from_pretrained(path).model_type
            if model_type not in MODELS:
                raise ValueError(f"{path} is a {model_type!r} model; dual encoders are {', '.join(MODELS)}")
            loaded: Any = MODELS[model_type].from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            # Pictures are resized by Pillow, as published scores are; the default is torchvision, where it is there.
            processor = AutoImageProcessor.from_pretrained(path, backend="pil")
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"{path} cannot be loaded as a dual encoder: {error}") from error
        model, info = loaded
        told = [
            f"{what} {len(keys)}: {', '.join(keys[:_NAMED])}"
            for what, keys in (
                ("lacks", sorted(info["missing_keys"])),
                ("has weights that the model has no place for,", sorted(info["unexpected_keys"])),
            )
            if keys
        ]
        if told:
            raise ValueError(f"the weights of {path} do not match the model; its checkpoint {'; '.join(told)}")
        return cls(model, processor, tokenizer, str(path))

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes model, image processor and tokenizer, so that `from_pretrained` and plain transformers load them."""
        self.model.save_pretrained(directory)
        self.processor.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    @property
    def logit_scale(self) -> nn.Parameter:
        """The model's own."""
        return self.model.logit_scale

    def project_images(self, pixels: Tensor) -> Tensor:
        """The projected pooled output of the vision tower."""
        if isinstance(self.model, VisionTextDualEncoderModel):
            # Not get_image_features: convolutional towers pool to [N, C, 1, 1], which it projects along the wrong axis.
            pooled = self.model.vision_model(pixel_values=pixels).pooler_output
            return self.model.visual_projection(pooled.flatten(1))
        return self.model.get_image_features(pixel_values=pixels).pooler_output

    def project_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The projected pooled output of the text tower."""
        if isinstance(self.model, SiglipModel):  # trained on its padding, without a mask
            return self.model.get_text_features(input_ids=input_ids).pooler_output
        return self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output

    def project_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """CLIP's states through its text projection."""
        if not isinstance(self.model, CLIPModel):
            raise ValueError(
                f"{self.source['backbone']}: a {self.model.config.model_type!r} model gives no states of tokens in the "
                "common space, which fine-grained EMScore needs; give granularity='coarse', or another backbone"
            )
        states = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.model.text_projection(states)


@dataclass
class _Preprocess:
    processor: Any

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        rgb = [picture.convert("RGB") for picture in pictures]
        return self.processor(images=rgb, return_tensors="pt")["pixel_values"]


@dataclass
class _Tokenize:
    tokenizer: Any
    context_length: int
    whole_context: bool

    def __call__(self, captions: Sequence[str]) -> dict[str, Tensor]:
        rows = self.tokenizer(
            list(captions),
            padding="max_length" if self.whole_context else "longest",
            truncation=True,
            max_length=self.context_length,
            padding_side="right",
            return_attention_mask=True,
            return_tensors="pt",
        )
        ids, mask = rows["input_ids"], rows["attention_mask"]
        return {"input_ids": ids, "attention_mask": torch.ones_like(mask) if self.whole_context else mask}
