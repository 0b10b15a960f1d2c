"""Captions for many pictures: the loop that `rlcap caption` and the trainers share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import torch
from PIL import Image
from torch.utils.data import DataLoader

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings, VisualContext
from rlcap.console import progress
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.data.images import BadImageCounter
from rlcap.data.shared_rows import Row
from rlcap.launching.workers import stay_with_rank

# The encoded pictures of a batch and the number of its first row -> captions.
Decode = Callable[[VisualContext, int], CaptionTokens]


@contextmanager
def evaluating(captioner: Captioner) -> Iterator[None]:
    """The captioner in eval mode, and without gradient, for the length of the block."""
    training = captioner.training
    captioner.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        captioner.train(training)


def to_device(visual: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """The tensors of a batch on `device`."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in visual.items()}


def nothing(captioner: Captioner) -> tuple[dict[str, torch.Tensor], CaptionTokens]:
    """A blank picture and a caption of which no token counts: a pass over them runs all layers, and says nothing."""
    visual = to_device(captioner.preprocess([Image.new("RGB", (64, 64))]), captioner.device)
    ids = torch.full((1, 1, 1), captioner.codec.special.eos, device=captioner.device)
    none = torch.zeros((1, 1), dtype=torch.bool, device=captioner.device)
    return visual, CaptionTokens(ids, torch.ones_like(ids, dtype=torch.bool), none, none)


def best_captions(captioner: Captioner, generation: GenerationSettings) -> Decode:
    """One caption a picture: the best beam, or the greedy caption where `num_beams` is 1. K = 1."""
    if generation.num_beams == 1:
        return lambda context, first: captioner.greedy(context, generation)
    return lambda context, first: captioner.beam_search(context, generation)


def captioned(
    captioner: Captioner,
    dataset: datasets.Dataset,
    batches: list[list[int]],
    decode: Decode,
    *,
    features: FeatureStore | None,
    workers: int,
) -> Iterator[list[Row]]:
    """Yields the rows of each batch of row numbers: "image_id" and "captions", from pictures or stored features.

    A row whose picture cannot be decoded has "failed", which says why, in place of captions.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]  # a datasets.Dataset is one to torch
        batch_sampler=batches,
        collate_fn=VisualCollator(captioner.preprocessor, features),
        num_workers=workers,
        worker_init_fn=stay_with_rank,
    )
    ids = dataset["image_id"]
    for numbers, batch in zip(batches, loader, strict=True):
        made: dict[str, Row] = {}
        visual = batch["visual"]
        if visual is None and captioner.synchronised:  # the other ranks wait for this one
            visual = nothing(captioner)[0]
        if visual is not None:
            with evaluating(captioner):  # not around the loop: what happens between batches is not ours
                tokens = decode(captioner.encode(to_device(visual, captioner.device)), numbers[0])
            texts = captioner.decode(tokens)
            seen = batch["rows"]  # none, where it is a stand-in that was captioned
            made = {row["image_id"]: {"captions": own} for row, own in zip(seen, texts, strict=bool(seen))}
        reasons = (": ".join(bad) for bad in batch["bad"])
        yield [{"image_id": ids[n], **(made.get(ids[n]) or {"failed": next(reasons)})} for n in numbers]


def caption_all(
    captioner: Captioner,
    dataset: datasets.Dataset,
    generation: GenerationSettings,
    *,
    features: FeatureStore | None,
    batch_size: int,
    workers: int,
    max_bad_images: float,
    bar: bool = True,
) -> dict[str, str]:
    """Captions the rows of a data set, from pictures or stored features; image_id -> caption, in the rows' order.

    Pictures that cannot be decoded get no caption; raises ValueError where they are more than the share
    `max_bad_images`. A progress bar counts batches unless `bar` is False.
    """
    numbers = range(len(dataset))
    batches = [list(numbers[start : start + batch_size]) for start in range(0, len(dataset), batch_size)]
    bad = BadImageCounter(len(dataset), max_bad_images)
    captions: dict[str, str] = {}
    made = captioned(
        captioner, dataset, batches, best_captions(captioner, generation), features=features, workers=workers
    )
    for rows in progress(made, total=len(batches), desc="captions", unit="batch", leave=False, disable=not bar):
        bad.extend([(row["image_id"], row["failed"]) for row in rows if "failed" in row])
        captions.update({row["image_id"]: row["captions"][0] for row in rows if "failed" not in row})
    return captions
