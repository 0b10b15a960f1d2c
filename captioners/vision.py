"""A vision model alone, as a grid transformer would see with it."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, PreTrainedModel

from captioners.base import Captioner
from captioners.grid_transformer import _grid, _load_vision
from captioners.preprocess import Preprocessor


class GridVision(nn.Module):
    def __init__(self, model: PreTrainedModel, preprocessor: Preprocessor):
        super().__init__()
        self.model = model
        self.preprocessor = preprocessor

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "GridVision":
        model = _load_vision(path, torch.float32)
        return cls(model, Preprocessor(AutoImageProcessor.from_pretrained(path))).eval()

    def parts(self) -> dict[str, list[nn.Module]]:
        return {"vision": [self.model]}

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return _grid(self.model, pixels)

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        return Captioner.features(self, visual)
