"""Captions with what people said of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlcap.data.annotation_files import number_of


@dataclass(frozen=True)
class JudgedCaption:
    """A caption for a picture, or for a clip's frames.

    pictures: paths, one of a picture. ratings: one a person, empty where it was only compared. objectives: further
    ratings, each the mean over people, by the names that the data gives them.
    """

    image_id: str
    pictures: tuple[str, ...]
    caption: str
    ratings: tuple[float, ...] = ()
    split: str | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)

    @property
    def rating(self) -> float:
        """The mean rating; NaN without ratings."""
        return sum(self.ratings) / len(self.ratings) if self.ratings else math.nan


@dataclass(frozen=True)
class Judgments:
    """Captions that were rated or compared; preferences are (better, worse), as indices into `captions`."""

    captions: list[JudgedCaption] = field(default_factory=list)
    preferences: list[tuple[int, int]] = field(default_factory=list)

    def of(self, split: str) -> "Judgments":
        """The captions of a split, and the preferences among them."""
        kept = [i for i, caption in enumerate(self.captions) if caption.split == split]
        new = {old: i for i, old in enumerate(kept)}
        pairs = [(new[a], new[b]) for a, b in self.preferences if a in new and b in new]
        return Judgments([self.captions[i] for i in kept], pairs)

    def check_ids(self, source: str) -> None:
        """Raises ValueError where one image_id stands for two pictures."""
        pictures: dict[str, tuple[str, ...]] = {}
        for caption in self.captions:
            first = pictures.setdefault(caption.image_id, caption.pictures)
            if first != caption.pictures:
                raise ValueError(
                    f'{source}: the image_id "{caption.image_id}" is {first[0]} and {caption.pictures[0]}; give every '
                    "picture its own image_id"
                )

    def require_ratings(self, source: str) -> None:
        """Raises ValueError where captions were compared, and not rated."""
        without = sum(not caption.ratings for caption in self.captions)
        if without:
            raise ValueError(
                f"{without} captions of {source} have no rating (lines with better and worse?), and ratings are what "
                "is learned here"
            )


def rating_of(value: Any, where: str, name: str = "a rating") -> float:
    """A finite number; raises ValueError naming its place."""
    number = number_of(value, where, name)
    if not math.isfinite(number):
        raise ValueError(f"{where}: {name} must be a finite number, not {number}")
    return number
