"""Captions t' for pictures, by a captioner of ours."""

from collections.abc import Callable, Iterator
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings, VisualContext
from rlcap.captioning import evaluating, to_device
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.positives.manifest import Row
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
) -> Callable[[list[list[int]]], Iterator[list[Row]]]:
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
        loader: DataLoader[Any] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=VisualCollator(captioner.preprocessor, features),
            num_workers=workers,
        )
        ids = dataset["image_id"]
        for numbers, batch in zip(batches, loader, strict=True):
            made: dict[str, Row] = {}
            if batch["visual"] is not None:
                with evaluating(captioner):
                    context = captioner.encode(to_device(batch["visual"], captioner.device))
                    texts = captioner.decode(decode(context, numbers[0]))
                for row, own in zip(batch["rows"], texts, strict=True):
                    distinct = [text for text in dict.fromkeys(map(str.strip, own)) if text]
                    said: Row = {"captions": distinct} if distinct else {"failed": "every caption is empty"}
                    made[row["image_id"]] = {"image_id": row["image_id"], **said}
            reasons = iter(batch["bad"])
            yield [made.get(ids[n]) or {"image_id": ids[n], "failed": ": ".join(next(reasons))} for n in numbers]

    return make


def describe(generation: GenerationSettings, way: str) -> dict[str, Any]:
    """The settings that a way of generating captions reads."""
    read = {"greedy": (), "beam": ("num_beams", "length_penalty"), "sample": ("temperature", "top_k", "top_p")}[way]
    return {"way": way, **{name: getattr(generation, name) for name in ("max_new_tokens", *read)}}


def device_of(rank: int, given: str | None) -> torch.device:
    """The device that was given, or a GPU for each process where there are any."""
    if given is not None:
        return torch.device(given)
    return (
        torch.device(f"cuda:{rank % torch.cuda.device_count()}") if torch.cuda.is_available() else torch.device("cpu")
    )
