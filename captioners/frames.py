"""Frames: the vision tower over each, and their order as a learned embedding.

The embedding starts at zero, so that a picture checkpoint is unchanged.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class TemporalEmbedding(nn.Module):
    """Adds one learned vector per frame, [max_frames, D], to all grid positions of that frame.

    A clip of one frame is a picture and gets nothing added, whatever it is batched with.
    """

    def __init__(self, max_frames: int, dimension: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(max_frames, dimension))

    def forward(self, states: Tensor, frame_mask: Tensor | None) -> Tensor:
        """states [B, F, N, D], frame_mask [B, F] or None -> [B, F, N, D]; ValueError past max_frames."""
        return add_to_frames(self.weight, states, frame_mask)


def add_to_frames(weight: Tensor, states: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Adds a row of weight [max_frames, D] to each frame of clips, not of pictures; see TemporalEmbedding.forward."""
    num_frames = states.shape[1]
    if num_frames > len(weight):
        raise ValueError(f"a clip has {num_frames} frames; this captioner was made for at most {len(weight)}")
    if frame_mask is None:
        is_clip = states.new_full((len(states), 1, 1, 1), float(num_frames > 1))
    else:
        is_clip = (frame_mask.sum(dim=1) > 1).to(states.dtype)[:, None, None, None]
    # Multiplied by zero rather than left out for pictures: DDP wants a gradient for it on every rank.
    return states + weight[:num_frames, None] * is_clip


def frame_features(run: Callable[[Tensor], Tensor], visual: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Features [B, F, N, Dv] of "pixel_values" [B, 3, H, W] (F = 1) or [B, F, 3, H, W], by `run` on [M, 3, H, W].

    Where "frame_mask" [B, F] says that a clip has no such frame nothing is run, and zeros stand.
    """
    pixels = visual["pixel_values"].to(dtype)
    if pixels.ndim == 4:
        pixels = pixels[:, None]
    shape = pixels.shape[:2]
    frame_mask = visual.get("frame_mask")
    if frame_mask is None:
        return run(pixels.flatten(0, 1)).unflatten(0, shape)
    states = run(pixels[frame_mask])
    padded = states.new_zeros(*shape, *states.shape[1:])
    padded[frame_mask] = states
    return padded


def extended(weight: Tensor, max_frames: int) -> Tensor:
    """A stored embedding [F, D] with zero rows appended up to max_frames; ValueError where it holds more frames."""
    if len(weight) > max_frames:
        raise ValueError(f"max_frames is {max_frames}, but the stored temporal embedding has {len(weight)} frames")
    return torch.cat([weight, weight.new_zeros(max_frames - len(weight), weight.shape[1])])
