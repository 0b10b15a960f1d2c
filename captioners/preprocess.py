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

    preprocess: M pictures to [M, 3, H, W]. Raises ValueError on an empty batch, a clip without frames, pictures and
    clips in one batch, and anything that is not a PIL picture.
    """
    if not visuals:
        raise ValueError("no pictures to preprocess: the batch is empty")
    pictures = [visual for visual in visuals if isinstance(visual, Image.Image)]
    clips = [visual for visual in visuals if not isinstance(visual, Image.Image)]
    if pictures and clips:
        raise ValueError("pictures and clips are mixed in one batch; hand in either pictures or lists of frames")
    return _clips(clips, preprocess) if clips else {"pixel_values": preprocess(_checked(pictures))}


def _clips(
    clips: Sequence[Sequence[Image.Image]], preprocess: Callable[[Sequence[Image.Image]], Tensor]
) -> dict[str, Tensor]:
    for b, clip in enumerate(clips):
        if not isinstance(clip, Sequence) or isinstance(clip, str):
            raise ValueError(f"visual {b} is a {type(clip).__name__}; expected a PIL picture or a list of frames")
        if not clip:
            raise ValueError(f"clip {b} has no frames")
    lengths = torch.tensor([len(clip) for clip in clips])
    frames = preprocess(_checked([frame for clip in clips for frame in clip]))
    frame_mask = torch.arange(int(lengths.max())) < lengths[:, None]
    if bool(frame_mask.all()):
        return {"pixel_values": frames.view(*frame_mask.shape, *frames.shape[1:])}
    padded = frames.new_zeros(*frame_mask.shape, *frames.shape[1:])
    padded[frame_mask] = frames
    return {"pixel_values": padded, "frame_mask": frame_mask}


def _checked(pictures: list[Image.Image]) -> list[Image.Image]:
    for picture in pictures:
        if not isinstance(picture, Image.Image):
            raise ValueError(f"expected PIL pictures, got a {type(picture).__name__}")
    return pictures
