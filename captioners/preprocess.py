"""Pictures and clips to pixel tensors, without a model: picklable, so that it can run in data workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers import BaseImageProcessor

Visual = Image.Image | Sequence[Image.Image]


@dataclass
class Preprocessor:
    """Pictures through the image processor that the vision model was trained with."""

    processor: BaseImageProcessor

    def __call__(self, visuals: Sequence[Visual]) -> dict[str, Tensor]:
        """What `as_pixel_values` gives. Pictures of any PIL mode are converted to RGB."""
        return as_pixel_values(visuals, self._pixels)

    def _pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        rgb = [picture.convert("RGB") for picture in pictures]
        return self.processor(images=rgb, return_tensors="pt")["pixel_values"]


def as_pixel_values(
    visuals: Sequence[Visual], preprocess: Callable[[Sequence[Image.Image]], Tensor]
) -> dict[str, Tensor]:
    """B pictures as "pixel_values" [B, 3, H, W], or B clips as [B, F, 3, H, W], with "frame_mask" [B, F] if ragged.

    preprocess: M pictures to [M, 3, H, W]. Raises ValueError as `as_frames` does, and on pictures beside clips.
    """
    clips = as_frames(visuals)
    pictures = [isinstance(visual, Image.Image) for visual in visuals]
    if any(pictures) and not all(pictures):
        raise ValueError("pictures and clips are mixed in one batch; hand in either pictures or lists of frames")
    frames = preprocess([frame for clip in clips for frame in clip])
    if all(pictures):
        return {"pixel_values": frames}
    lengths = torch.tensor([len(clip) for clip in clips])
    frame_mask = torch.arange(int(lengths.max())) < lengths[:, None]
    if bool(frame_mask.all()):
        return {"pixel_values": frames.view(*frame_mask.shape, *frames.shape[1:])}
    padded = frames.new_zeros(*frame_mask.shape, *frames.shape[1:])
    padded[frame_mask] = frames
    return {"pixel_values": padded, "frame_mask": frame_mask}


def as_frames(visuals: Sequence[Visual]) -> list[list[Image.Image]]:
    """B pictures or clips as B lists of pictures, one picture being a clip of one frame.

    Raises ValueError on an empty batch, a clip without frames, and anything that is not a PIL picture.
    """
    if not visuals:
        raise ValueError("no pictures to preprocess: the batch is empty")
    return [_frames(b, visual) for b, visual in enumerate(visuals)]


def _frames(b: int, visual: Visual) -> list[Image.Image]:
    if isinstance(visual, Image.Image):
        return [visual]
    if not isinstance(visual, Sequence) or isinstance(visual, str):
        raise ValueError(f"visual {b} is a {type(visual).__name__}; expected a PIL picture or a list of frames")
    if not visual:
        raise ValueError(f"clip {b} has no frames")
    for picture in visual:
        if not isinstance(picture, Image.Image):
            raise ValueError(f"expected PIL pictures, got a {type(picture).__name__}")
    return list(visual)
