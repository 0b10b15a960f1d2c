"""The comparative scorer as a reward (after arXiv 2602.00381)."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.comparative.scorer import load_scorer
from rewards.completions import texts
from rewards.fingerprint import fingerprint, versions
from rewards.kept import Kept
from rewards.pictures import Frames, Pictures


class Comparative:
    """Reward: how good a caption is for its picture, by a scorer that `rlcap reward comparative` trained.

    path: the scorer's directory.
    calibration: `linear` or `isotonic` maps the score to the scale of the ratings; None gives the score itself, whose
        scale means nothing unless it was trained by regression.
    batch_size: pictures, frames or captions that are encoded at a time.
    max_pictures: pictures whose vectors are kept across calls, by `image_id` or else by their content.
    device: default: the GPU in use where there is one.

    Raises ValueError where the directory is no scorer or its parts do not belong together, and for a calibration that
    it does not have.
    """

    __name__ = "comparative"
    needs = frozenset({"images"})
    lazy_images = True

    def __init__(
        self,
        *,
        path: str | Path,
        calibration: str | None = None,
        batch_size: int = 64,
        max_pictures: int = 10_000,
        device: str | None = None,
    ) -> None:
        for key, value in (("batch_size", batch_size), ("max_pictures", max_pictures)):
            if value < 1:
                raise ValueError(f"comparative: {key} is {value}; give at least 1")
        self.path = str(path)
        self.scorer = load_scorer(path).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        known = self.scorer.calibrations
        if calibration is not None and calibration not in known:
            raise ValueError(
                f"comparative: calibration is {calibration!r}; {path} has {', '.join(known) or 'none'} "
                "(they are fitted where the data has ratings)"
            )
        self.calibration = calibration
        self.batch_size = batch_size
        self.pictures_encoded = 0
        self._kept = Kept(max_pictures)

    @torch.inference_mode()
    def __call__(
        self,
        completions: Sequence[Any],
        *,
        images: Sequence[Any] | None = None,
        image: Sequence[Any] | None = None,
        image_id: Sequence[Any] | None = None,
        **columns: Any,
    ) -> list[float]:
        """One score a caption of `images`, one picture or list of frames a caption; TRL's `image` column does too."""
        captions = texts(completions, self.__name__)
        if not captions:
            return []
        visuals = Pictures(images, image, image_id, len(captions), self.__name__)
        keys = visuals.names
        pictures = self._pictures(visuals)
        distinct = list(dict.fromkeys(captions))
        vectors = dict(zip(distinct, self.scorer.encode_captions(distinct, self.batch_size), strict=True))
        pairs = list(dict.fromkeys(zip(keys, captions, strict=True)))
        scores = self.scorer.head(
            torch.stack([pictures[key] for key, _ in pairs]), torch.stack([vectors[caption] for _, caption in pairs])
        )
        values = scores.double().cpu().numpy()
        if self.calibration is not None:
            values = self.scorer.calibrations[self.calibration](values)
        if not np.isfinite(values).all():
            key, caption = pairs[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise ValueError(f"{self.__name__}: the score of {caption!r} for the picture {key!r} is no number")
        found = dict(zip(pairs, values.tolist(), strict=True))
        return [found[pair] for pair in zip(keys, captions, strict=True)]

    def remember(self, image_id: Hashable, vector: Tensor) -> None:
        """Keeps a picture's vector [P] that was had elsewhere, as if it were encoded here."""
        self._kept.put("picture", ("id", image_id), vector.to(self.scorer.pictures.device))

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        scorer = self.scorer
        used = None if self.calibration is None else scorer.calibrations[self.calibration]
        return {
            "name": self.__name__,
            "path": self.path,
            "calibration": self.calibration,
            "calibration_points": None if used is None else used.fingerprint(),
            "picture_encoder": scorer.pictures.fingerprint(),
            "sentence_encoder": scorer.sentences.fingerprint(),
            "head": fingerprint(scorer.head),
            "lowercase": scorer.lowercase,
            "trained": scorer.trained,
            **versions("torch", "transformers", "pillow"),
        }

    def _pictures(self, visuals: Mapping[Hashable, Frames]) -> dict[Hashable, Tensor]:
        """Vectors of the pictures, kept or encoded now."""
        found, missing = self._kept.look_up("picture", visuals)
        if missing:
            encoded = self.scorer.encode_pictures([visuals[key] for key in missing], self.batch_size)
            for key, vector in zip(missing, encoded, strict=True):
                found[key] = vector
                self._kept.put("picture", key, vector)
            self.pictures_encoded += len(missing)
        return found
