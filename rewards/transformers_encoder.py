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
    AutoModel,
    AutoTokenizer,
    CLIPModel,
    CLIPTextModel,
    CLIPVisionModel,
    PreTrainedModel,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from rewards.dual_encoder import DualEncoder
from rewards.text_context import text_context

MODELS: dict[str, Any] = {
    "clip": CLIPModel,
    "siglip": SiglipModel,
    "vision-text-dual-encoder": VisionTextDualEncoderModel,
}
_TOWERS: dict[tuple[str, str], Any] = {("clip", "pixel_values"): CLIPVisionModel, ("clip", "input_ids"): CLIPTextModel}
_PARTS = {
    "vision_model": "vision",
    "text_model": "text",
    "visual_projection": "projections",
    "text_projection": "projections",
    "logit_scale": "temperature",
    "logit_bias": "unused",
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
        tower: Any = model.text_model
        length = text_context(tower, tokenizer)
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

    @classmethod
    def from_towers(cls, vision: str | Path, text: str | Path, dimensions: int = 512) -> "TransformersEncoder":
        """A new VisionTextDualEncoder of a picture model and a text model, directories or Hub ids, in float32.

        Its projections to `dimensions` are random (torch's seed), and so is a pooler that a model's files lack: `new`
        names them. Raises ValueError where a model cannot be loaded, does not take pictures or text alone, has no
        pooled output, or lacks other weights.
        """
        towers = _tower(vision, "pixel_values"), _tower(text, "input_ids")
        (vision_model, _), (text_model, _) = towers
        if "hidden_size" not in vision_model.config.to_dict():  # convolutional towers have a width a stage
            vision_model.config.hidden_size = vision_model.config.hidden_sizes[-1]
        configs = vision_model.config, text_model.config
        config = VisionTextDualEncoderConfig.from_vision_text_configs(*configs, projection_dim=dimensions)
        model = VisionTextDualEncoderModel(config, vision_model, text_model)
        try:
            processor = AutoImageProcessor.from_pretrained(vision, backend="pil")
            tokenizer = AutoTokenizer.from_pretrained(text)
        except (OSError, ValueError) as error:
            raise ValueError(f"{vision} has no image processor, or {text} no tokenizer: {error}") from error
        encoder = cls(model, processor, tokenizer, f"{vision} + {text}")
        poolers = [
            f"model.{side}_model.{name}"
            for side, (_, new) in zip(("vision", "text"), towers, strict=True)
            for name in new
        ]
        encoder.new = frozenset(["model.visual_projection.weight", "model.text_projection.weight", *poolers])
        return encoder

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes model, image processor and tokenizer, so that `from_pretrained` and plain transformers load them."""
        self.model.save_pretrained(directory)
        self.processor.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    @property
    def logit_scale(self) -> nn.Parameter:
        """The model's own."""
        return self.model.logit_scale

    def checkpoint_activations(self) -> None:
        """Of the towers that can; ResNet cannot."""
        for tower in (self.model.vision_model, self.model.text_model):
            if tower.supports_gradient_checkpointing:
                tower.activation_checkpointing_enable()

    def pool_images(self, pixels: Tensor) -> Tensor:
        """The pooled output of the vision tower; SigLIP's is in the common space already."""
        # Convolutional towers pool to [N, C, 1, 1], which the model's own get_image_features projects wrongly.
        return self.model.vision_model(pixel_values=pixels).pooler_output.flatten(1)

    def project_pooled_images(self, pooled: Tensor) -> Tensor:
        """Through the visual projection."""
        return pooled if isinstance(self.model, SiglipModel) else self.model.visual_projection(pooled)

    def pool_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled output of the text tower; SigLIP's is projected within it."""
        if isinstance(self.model, SiglipModel):  # trained on its padding, without a mask
            return self.model.text_model(input_ids=input_ids).pooler_output
        return self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output

    def project_pooled_texts(self, pooled: Tensor) -> Tensor:
        """Through the text projection."""
        return pooled if isinstance(self.model, SiglipModel) else self.model.text_projection(pooled)

    def part_of(self, parameter: str) -> str:
        """By the model's attributes; SigLIP has projections in its towers, and counts none."""
        return _PARTS[parameter.split(".")[1]]

    def project_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """CLIP's states through its text projection."""
        if not isinstance(self.model, CLIPModel):
            raise ValueError(
                f"{self.source['backbone']}: a {self.model.config.model_type!r} model gives no states of tokens in the "
                "common space, which fine-grained EMScore needs; give granularity='coarse', or another backbone"
            )
        states = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.model.text_projection(states)


def _tower(path: str | Path, takes: str) -> tuple[PreTrainedModel, list[str]]:
    """A model that takes pictures, or text, alone, and the names of the weights of its pooler where they are random."""
    try:
        config = AutoConfig.from_pretrained(path)
        model_class: Any = _TOWERS.get((config.model_type, takes), AutoModel)
        loaded: Any = model_class.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded as a tower of a dual encoder: {error}") from error
    model, info = loaded
    kind = "pictures" if takes == "pixel_values" else "text"
    if model.main_input_name != takes or model.config.is_encoder_decoder:
        raise ValueError(f"{path} is a {model.config.model_type!r} model, which does not take {kind} alone")
    missing = sorted(info["missing_keys"])
    lacking = [name for name in missing if not name.startswith("pooler.")]
    if lacking:
        raise ValueError(f"{path} lacks {len(lacking)} weights of its model: {', '.join(lacking[:_NAMED])}")
    return model, missing


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
