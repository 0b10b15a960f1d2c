"""Rows of a dataset to the tensors that a captioner takes, in the worker processes of a DataLoader."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rlcap.data import stores
from rlcap.data.content import BadImage
from rlcap.data.features import FeatureStore
from rlcap.data.images import open_image
from rlcap.data.video import FrameChoice, open_video

Visual = Image.Image | list[Image.Image]


class VisualCollator:
    """Collates dataset rows into `{"visual", "rows", "bad"}`, leaving out pictures that cannot be decoded.

    visual: what `preprocessor` returns for the B pictures (or B lists of frames). With `features`, that store's grids
        instead: "features" [B, F, N, Dv] in fp16, and "frame_mask" [B, F] bool where clips differ in length; no picture
        is opened. None where no row is left.
    rows: the B rows that could be decoded, as dicts.
    bad: `(path, reason)` of the others, in order; a clip is bad with its first bad frame.
    images: with `keep_images`, the B pictures or lists of frames, for rewards that look at pixels.

    Picklable, so that it runs in spawned workers too.
    """

    def __init__(
        self,
        preprocessor: Callable[[list[Any]], Mapping[str, Tensor]] | None,
        features: FeatureStore | None = None,
        keep_images: bool = False,
    ) -> None:
        """Raises ValueError where there is neither a preprocessor nor stored features."""
        if preprocessor is None and features is None:
            raise ValueError("a VisualCollator needs the captioner's preprocessor or stored features")
        self.preprocessor = preprocessor
        self.features = features
        self.keep_images = keep_images

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate `rows`; raises ValueError naming a row that is neither in the store nor known there as bad."""
        kept: list[dict[str, Any]] = []
        bad: list[tuple[str, str]] = []
        images: list[Visual] = []
        stored: list[np.ndarray] = []
        for row in rows:
            try:
                if self.features is not None:
                    grid = self._stored(row)
                if self.features is None or self.keep_images:
                    images.append(open_visual(row))
            except BadImage as error:
                bad.append((error.path, error.reason))
                continue
            if self.features is not None:
                stored.append(grid)
            kept.append(dict(row))
        batch: dict[str, Any] = {"visual": self._visual(images, stored), "rows": kept, "bad": bad}
        return {**batch, "images": images} if self.keep_images else batch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "stores": stores.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stores.adopt(state.pop("stores"))
        self.__dict__.update(state)

    def _stored(self, row: Mapping[str, Any]) -> np.ndarray:
        assert self.features is not None
        image_id = row["image_id"]
        if image_id in self.features.bad:
            raise BadImage(*self.features.bad[image_id])
        return self.features[image_id]

    def _visual(self, images: list[Visual], stored: list[np.ndarray]) -> dict[str, Tensor] | None:
        if self.features is not None:
            return stack_features(stored) if stored else None
        assert self.preprocessor is not None
        return dict(self.preprocessor(images)) if images else None


def open_visual(row: Mapping[str, Any]) -> Visual:
    """Return the picture of a row, or the frames of its clip or video in order; raises BadImage naming the bad file."""
    try:
        if "frames" in row:
            return [open_image(frame) for frame in row["frames"]]
        if "video" in row:
            return open_video(row["video"], FrameChoice.parse(row["video_frames"]))
        return open_image(row["image"])
    except BadImage as error:
        if error.path and not error.path.startswith("<"):
            raise
        raise BadImage(
            f'the picture of "{row["image_id"]}"', error.reason
        ) from error  # bytes have no name of their own


def is_clip(row: Mapping[str, Any]) -> bool:
    """Whether a row is a clip or video, be it of a single frame."""
    return "frames" in row or "video" in row


def stack_features(stored: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Stack B grids [F_b, N, Dv] to `features` [B, F, N, Dv], zeros after a clip's end, with `frame_mask` if ragged."""
    lengths = [len(grid) for grid in stored]
    features = torch.zeros(len(stored), max(lengths), *stored[0].shape[1:], dtype=torch.float16)
    for row, grid in zip(features, stored, strict=True):
        row[: len(grid)] = torch.from_numpy(grid)
    if min(lengths) == max(lengths):
        return {"features": features}
    return {"features": features, "frame_mask": torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]}
