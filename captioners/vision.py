"""Vision models that give a grid of features: on their own, or as the eyes of a grid transformer."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPVisionModel, PreTrainedModel, SiglipVisionModel

from captioners.frames import frame_features
from captioners.preprocess import Preprocessor
from captioners.weights import load_weights, local_directory, refuse_random, unused


class GridVision(nn.Module):
    """A vision model alone, with the interface that features are computed and stored through."""

    def __init__(self, model: PreTrainedModel, preprocessor: Preprocessor):
        super().__init__()
        self.model = model
        self.preprocessor = preprocessor

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "GridVision":
        """Loads a vision model (directory or Hub id) in float32 with its image processor; see load_vision."""
        return cls(load_vision(path, torch.float32), image_preprocessor(path)).eval()

    def parts(self) -> dict[str, list[nn.Module]]:
        """ "vision" alone."""
        return {"vision": [self.model]}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating-point type."""
        return self.model.dtype

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        """Features [B, F, N, Dv] of "pixel_values", as Captioner.features gives them."""
        return frame_features(lambda pixels: grid(self.model, pixels), visual, self.dtype)


def load_vision(path: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """The vision model of a directory or Hub id; of CLIP and SigLIP the vision tower alone.

    Raises ValueError where there is no such model, where it is a captioner or does not take pictures alone, and where
    weights that the grid depends on are not there.
    """
    directory = local_directory(path)
    eyes = Path(path) / "vision"
    if (eyes / "config.json").is_file():
        raise ValueError(f"{path} is a captioner and no vision model; its vision model is {eyes}")
    towers: dict[str, Any] = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    try:
        model_class: type[PreTrainedModel] = towers.get(AutoConfig.from_pretrained(directory).model_type, AutoModel)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no vision model that transformers knows: {error}") from error
    model, missing = load_weights(model_class, directory, dtype)
    if model.main_input_name != "pixel_values":
        raise ValueError(f"{path} is a {model.config.model_type!r} model, which does not take pictures alone")
    refuse_random(path, missing, lambda: unused(model, lambda: grid_of_blank(model, image_preprocessor(path))))
    return model


def image_preprocessor(path: str | Path) -> Preprocessor:
    """The preprocessor of a vision model's directory or Hub id; ValueError where there is none."""
    directory = local_directory(path)
    try:
        return Preprocessor(AutoImageProcessor.from_pretrained(directory))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} has no image processor: {error}") from error


def grid(vision: PreTrainedModel, pixels: Tensor) -> Tensor:
    """Pixels [M, 3, H, W] to the last hidden state [M, N, Dv], the positions of a feature map laid out in rows.

    Channels lie last in memory, which convolutions are faster with.
    """
    states = vision(pixel_values=pixels.contiguous(memory_format=torch.channels_last)).last_hidden_state
    # Convolutional models give [M, C, H, W], Transformers [M, N, C].
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states


def grid_of_blank(vision: PreTrainedModel, preprocessor: Preprocessor) -> Tensor:
    """The grid [1, N, Dv] of one blank picture, to learn its size."""
    blank = preprocessor([Image.new("RGB", (64, 64))])["pixel_values"]
    return grid(vision.eval(), blank.to(vision.dtype))
