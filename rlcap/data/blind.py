"""Blind controls: the same rows without their own pictures, to see how much of a ranking needs no picture at all.

true       every row with its own picture
shuffled   every row with the picture of another row's image_id; all pictures are used equally often
blank      every picture and frame replaced by an even grey one of the same size, run through the vision model
"""

import io
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from rlcap.data.features import FeatureStore

CONTROLS = ("true", "shuffled", "blank")
GREY = (128, 128, 128)
SIDE = 224  # pixels of the blank picture where none is opened, because features stand in for pictures
VISUAL = ("image", "frames", "video", "video_frames")


class ControlledRows(Dataset[dict[str, Any]]):
    """The rows of a data set under one of CONTROLS, each with its `position`.

    features: the store that stands in for pictures, if one does. Raises ValueError for an unknown control, and for
    `shuffled` where all rows are of one picture.
    """

    def __init__(
        self, dataset: datasets.Dataset, control: str = "true", *, seed: int = 0, features: FeatureStore | None = None
    ) -> None:
        if control not in CONTROLS:
            raise ValueError(f"the control is {control!r}; it can be one of {', '.join(CONTROLS)}")
        self.dataset = dataset
        self.control = control
        self._features = features if control == "blank" else None
        self._other = other_pictures(dataset["image_id"], seed) if control == "shuffled" else None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = {**self.dataset[position], "position": position}
        if self._other is not None:
            other = self.dataset[self._other[position]]
            row |= {name: other[name] for name in ("image_id", *VISUAL) if name in other}
        elif self._features is not None:
            kept = {name: value for name, value in row.items() if name not in VISUAL}
            row = {**kept, "frames": [_blank_png()] * len(self._features[row["image_id"]])}
        return row


def other_pictures(image_ids: Sequence[str], seed: int) -> list[int]:
    """For each row, a row of another picture: the pictures stand in a random circle, and each row gets the next one.

    Raises ValueError where there is one picture alone.
    """
    first: dict[str, int] = {}
    for position, image_id in enumerate(image_ids):
        first.setdefault(image_id, position)
    if len(first) < 2:
        raise ValueError("pictures cannot be shuffled: all rows are of one picture")
    circle = sorted(first)
    random.Random(seed).shuffle(circle)
    following = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [first[following[image_id]] for image_id in image_ids]


@dataclass(frozen=True)
class Blanked:
    """A preprocessor that is shown grey pictures of the sizes of those it is given; picklable."""

    preprocessor: Callable[[list[Any]], Mapping[str, Tensor]]

    def __call__(self, visuals: Sequence[Any]) -> Mapping[str, Tensor]:
        return self.preprocessor([_blanked(visual) for visual in visuals])


def _blanked(visual: Any) -> Any:
    if isinstance(visual, Image.Image):
        return Image.new("RGB", visual.size, GREY)
    return [_blanked(frame) for frame in visual]


def _blank_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), GREY).save(buffer, "PNG")
    return buffer.getvalue()
