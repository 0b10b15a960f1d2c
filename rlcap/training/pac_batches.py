"""Batches of pictures with their captions, and with what was generated for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rlcap.data.collate import open_visual
from rlcap.data.content import BadImage
from rlcap.data.features import FeatureStore
from rlcap.data.images import open_image
from rlcap.training.picture_vectors import stored_vectors


class PairCollator:
    """Rows of a data set to a batch, in the worker processes of a DataLoader.

    pictures: pixels [M + G, 3, H, W], or pooled vectors [M + G, P] where `vectors` is a store of them: M frames of the
        B pictures or clips, then G generated pictures. None where no picture can be decoded.
    frames: how many frames each row has [B]. generated: the rows [G] that have a generated picture.
    rows: the B rows whose pictures could be decoded. bad: (path, reason) of the others, and of generated pictures.

    generated_pictures: image_id -> file. generated_vectors: their store, where the tower is frozen.
    """

    def __init__(
        self,
        preprocess: Callable[[Sequence[Image.Image]], Tensor],
        vectors: FeatureStore | None = None,
        generated_pictures: Mapping[str, str] | None = None,
        generated_vectors: FeatureStore | None = None,
    ) -> None:
        self.preprocess = preprocess
        self.vectors = vectors
        self.generated_pictures = generated_pictures or {}
        self.generated_vectors = generated_vectors

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collates `rows`."""
        kept: list[dict[str, Any]] = []
        bad: list[tuple[str, str]] = []
        seen: list[Any] = []
        counts: list[int] = []
        for row in rows:
            try:
                frames = self._frames(row)
            except BadImage as error:
                bad.append((error.path, error.reason))
                continue
            seen.extend(frames)
            counts.append(len(frames))
            kept.append(dict(row))
        generated: list[int] = []
        for number, row in enumerate(kept):
            try:
                picture = self._generated(row["image_id"])
            except BadImage as error:
                bad.append((error.path, error.reason))
                continue
            if picture is not None:
                seen.append(picture)
                generated.append(number)
        pictures = None
        if seen:
            pictures = torch.stack(seen) if self.vectors is not None else self.preprocess(seen)
        where = {"frames": torch.tensor(counts), "generated": torch.tensor(generated, dtype=torch.long)}
        return {"pictures": pictures, **where, "rows": kept, "bad": bad}

    def _frames(self, row: Mapping[str, Any]) -> Sequence[Any]:
        if self.vectors is not None:
            return list(stored_vectors(self.vectors, row["image_id"]))
        visual = open_visual(row)
        return visual if isinstance(visual, list) else [visual]

    def _generated(self, image_id: str) -> Any:
        if image_id not in self.generated_pictures:
            return None
        if self.generated_vectors is None:
            return open_image(self.generated_pictures[image_id])
        if image_id in self.generated_vectors.bad:
            return None
        return stored_vectors(self.generated_vectors, image_id)[0]
