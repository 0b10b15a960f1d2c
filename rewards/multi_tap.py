"""MULTI-TAP (arXiv 2510.00766) as a reward: an LVLM's rating of a caption, overall or of one objective."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from rewards.completions import texts
from rewards.fingerprint import fingerprint, versions
from rewards.multi_tap_model import RatingModel
from rewards.multi_tap_objectives import Objectives
from rewards.pictures import Pictures

OVERALL = "overall"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class MultiTap:
    """Reward: the rating of a caption by a model that `rlcap reward multi-tap` trained.

    path: its directory. objective: "overall" is stage 1's rating in (0, 1); the name of an objective of the data is
    stage 2's prediction, on the scale of that objective. batch_size: captions at a time. device: a GPU where there is
    one. dtype: of the LVLM; the head and stage 2 always compute in full precision.

    Raises ValueError where the directory lacks something, weights do not fit, or the objective is not known.
    """

    __name__ = "multi-tap"
    needs = frozenset({"images"})
    uses_corpus = False

    def __init__(
        self,
        *,
        path: str | Path,
        objective: str = OVERALL,
        batch_size: int = 16,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"multi-tap: batch_size is {batch_size}; give at least 1")
        if dtype not in DTYPES:
            raise ValueError(f"multi-tap: dtype is {dtype!r}; give one of {', '.join(DTYPES)}")
        self.path, self.dtype, self.batch_size = str(path), dtype, batch_size
        self.objectives = Objectives.load(Path(path))
        self.objective = objective
        if objective != OVERALL:
            if self.objectives is None:
                raise ValueError(
                    f"multi-tap: objective is {objective!r}, but {path} has no stage 2; train with data that has "
                    "`objectives`, or leave the option out"
                )
            self.objectives.index(objective)
        self.model = RatingModel.load(path, dtype=DTYPES[dtype])
        self.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def __call__(
        self,
        completions: Sequence[Any],
        *,
        images: Sequence[Any] | None = None,
        image: Sequence[Any] | None = None,
        image_id: Sequence[Any] | None = None,
        **columns: Any,
    ) -> list[float]:
        """One value a caption of `images`, or of TRL's column `image`; each distinct pair is rated once."""
        return self.scores(completions, images=images, image=image, image_id=image_id)[self.objective]

    def scores(
        self,
        completions: Sequence[Any],
        *,
        images: Sequence[Any] | None = None,
        image: Sequence[Any] | None = None,
        image_id: Sequence[Any] | None = None,
    ) -> dict[str, list[float]]:
        """The overall rating and every objective, by name, from one pass of the model."""
        captions = texts(completions, self.__name__)
        pictures = Pictures(images, image, image_id, len(captions), self.__name__)
        keys = list(zip(pictures.names, captions, strict=True))
        distinct = sorted(dict.fromkeys(keys), key=lambda key: len(key[1]))  # alike lengths together: less padding
        values: dict[str, dict[tuple[Hashable, str], float]] = {name: {} for name in self.names}
        for start in range(0, len(distinct), self.batch_size):
            batch = distinct[start : start + self.batch_size]
            rated = self._rate([list(pictures[name]) for name, _ in batch], [caption for _, caption in batch])
            for name, own in rated.items():
                values[name].update(zip(batch, own, strict=True))
        return {name: [own[key] for key in keys] for name, own in values.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """What this model rates: "overall", and the objectives of its data."""
        return (OVERALL, *(self.objectives.names if self.objectives else ()))

    @torch.inference_mode()
    def _rate(self, pictures: list[list[Image.Image]], captions: list[str]) -> dict[str, list[float]]:
        model = self.model
        inputs = {name: value.to(model.device) for name, value in model.prompt(pictures, captions).items()}
        embeddings = model.embed(**as_dtype(inputs, model.lvlm.dtype))
        rated = {OVERALL: model.rate(embeddings).tolist()}
        if self.objectives is not None:
            predicted = self.objectives.predict(embeddings.cpu().numpy())
            rated |= {name: predicted[:, i].tolist() for i, name in enumerate(self.objectives.names)}
        return rated

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        settings = self.model.settings
        described: dict[str, Any] = {
            "name": self.__name__,
            "path": self.path,
            "objective": self.objective,
            "base_model": settings.base_model,
            "model_type": self.model.lvlm.config.model_type,
            "weights": fingerprint(self.model),
            "prompt": settings.prompt,
            "rating_scale": [settings.lowest, settings.highest],
            "dtype": self.dtype,
            **versions("torch", "transformers", "pillow"),
        }
        if self.objectives is not None:
            described["alphas"] = dict(zip(self.objectives.names, self.objectives.alphas, strict=True))
            described["objectives"] = self.objectives.fingerprint()
        return described


def as_dtype(inputs: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The inputs with floating-point ones, the pixels, in the type of the model's weights."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
