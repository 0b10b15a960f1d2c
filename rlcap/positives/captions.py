"""Captions t' for pictures, by a captioner of ours."""

from collections.abc import Iterator
from typing import Any

import datasets

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings, VisualContext
from rlcap.captioning import captioned
from rlcap.data.features import FeatureStore
from rlcap.data.shared_rows import Make, Row
from rlcap.training.randomness import generator_of

WAYS = ("greedy", "beam", "sample")


def caption_maker(
    captioner: Captioner,
    dataset: datasets.Dataset,
    way: str,
    number: int,
    generation: GenerationSettings,
    *,
    seed: int,
    features: FeatureStore | None,
    workers: int,
) -> Make:
    """What `write_manifest` calls: batches of row numbers to rows with `number` captions each, the best beam first.

    A batch's samples are drawn from (seed, its first row), so they are the same whoever draws them. Of equal captions
    of a picture one is kept, and empty ones are not: a row may have fewer. Raises ValueError for a way that is none of
    `WAYS`, and for a number that it cannot give.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; give one of {', '.join(WAYS)}")
    most = {"greedy": 1, "beam": generation.num_beams, "sample": number}[way]
    if not 1 <= number <= most:
        raise ValueError(f"{way} gives 1 to {most} captions a picture, not {number}; sample gives any number")

    def decode(context: VisualContext, first: int) -> CaptionTokens:
        if way == "greedy":
            return captioner.greedy(context, generation)
        if way == "beam":
            return captioner.beam_search(context, generation, num_return=number)
        return captioner.sample(context, number, generation, generator_of(captioner.device, seed, first, "positives"))

    def make(batches: list[list[int]]) -> Iterator[list[Row]]:
        for rows in captioned(captioner, dataset, batches, decode, features=features, workers=workers):
            yield [row if "failed" in row else _distinct(row) for row in rows]

    return make


def _distinct(row: Row) -> Row:
    texts = [text for text in dict.fromkeys(map(str.strip, row["captions"])) if text]
    said: Row = {"captions": texts} if texts else {"failed": "every caption is empty"}
    return {"image_id": row["image_id"], **said}


def describe(generation: GenerationSettings, way: str) -> dict[str, Any]:
    """The settings that a way of generating captions reads."""
    read = {"greedy": (), "beam": ("num_beams", "length_penalty"), "sample": ("temperature", "top_k", "top_p")}[way]
    return {"way": way, **{name: getattr(generation, name) for name in ("max_new_tokens", *read)}}
