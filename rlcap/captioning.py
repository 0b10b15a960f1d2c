"""Captions for many pictures: the loop that evaluation, `rlcap caption` and the trainers share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings
from rlcap.console import progress


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


def decode_best(captioner: Captioner, visual: dict[str, torch.Tensor], generation: GenerationSettings) -> CaptionTokens:
    """One caption a picture: the best beam, or the greedy caption where `num_beams` is 1. K = 1."""
    context = captioner.encode(visual)
    if generation.num_beams == 1:
        return captioner.greedy(context, generation)
    return captioner.beam_search(context, generation)


def caption_all(
    captioner: Captioner,
    loader: DataLoader,
    generation: GenerationSettings,
    on_bad: Callable[[list[tuple[str, str]]], Any],
    *,
    bar: bool = True,
) -> dict[str, str]:
    """Captions every batch of a loader of VisualCollator batches; image_id -> caption, in the loader's order.

    `on_bad` is given the (path, reason) of pictures that could not be decoded; they get no caption. A
    progress bar counts batches unless `bar` is False.
    """
    captions: dict[str, str] = {}
    with evaluating(captioner):
        for batch in progress(loader, desc="captions", unit="batch", leave=False, disable=not bar):
            on_bad(batch["bad"])
            if batch["visual"] is None:
                continue
            tokens = decode_best(captioner, to_device(batch["visual"], captioner.device), generation)
            texts = captioner.decode(tokens)
            captions.update({row["image_id"]: text[0] for row, text in zip(batch["rows"], texts, strict=True)})
    return captions
