"""Captioners whose vision tower gives a grid of one size: a clip is F grids, and grids can be stored."""

from abc import abstractmethod

import torch
from torch import Tensor

from captioners.base import Captioner
from captioners.frames import frame_features
from captioners.preprocess import Preprocessor
from captioners.types import VisualContext


class GridCaptioner(Captioner):
    """A captioner of pictures of one size, [B, 3, H, W], and of clips of such frames."""

    preprocessor: Preprocessor

    @abstractmethod
    def _vision_states(self, pixels: Tensor) -> Tensor:
        """Pixels [M, 3, H, W] to the vision tower's grid [M, N, Dv]."""

    @abstractmethod
    def _connect(self, features: Tensor, frame_mask: Tensor | None) -> VisualContext:
        """Features [B, F, N, Dv] and frame_mask [B, F] or None to what the decoder attends to."""

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        """The vision tower alone: [B, F, N, Dv], F = 1 for pictures, zeros where a clip has no frame."""
        return frame_features(self._vision_states, visual, self.dtype)

    def seen(self, visual: dict[str, Tensor]) -> dict[str, Tensor]:
        """The grids in place of the pixels."""
        if "features" in visual:
            return visual
        kept = {name: tensor for name, tensor in visual.items() if name == "frame_mask"}
        return {"features": self.features(visual), **kept}

    def encode(self, visual: dict[str, Tensor]) -> VisualContext:
        """What the decoder attends to, from "pixel_values" or from "features" [B, F, N, Dv], for which no vision runs.

        Raises ValueError where features stand in for a vision tower that is being trained.
        """
        frame_mask = visual.get("frame_mask")
        if "features" in visual:
            if self.training and torch.is_grad_enabled() and "vision" not in self._frozen:
                raise ValueError("stored features cannot train the vision tower: freeze 'vision', or pass pixel_values")
            features = visual["features"].to(self.dtype)
        else:
            features = self.features(visual)
        return self._connect(features, frame_mask)


def require_grid(captioner: Captioner) -> GridCaptioner:
    """The captioner as one whose features can be stored; ValueError where it is none."""
    if not isinstance(captioner, GridCaptioner):
        raise ValueError(
            f"features of a {type(captioner).__name__} captioner cannot be stored: its pictures differ in size"
        )
    return captioner
