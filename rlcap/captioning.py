"""Captions for many pictures: the loop that `rlcap caption` and the trainers share."""

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import torch
from PIL import Image
from torch.utils.data import DataLoader

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings
from rlcap.console import progress
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.data.images import BadImageCounter


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


def decode_best(captioner: Captioner, visual: dict[str, torch.Tensor], generation: GenerationSettings) -> CaptionTokens:
    """One caption a picture: the best beam, or the greedy caption where `num_beams` is 1. K = 1."""
    context = captioner.encode(visual)
    if generation.num_beams == 1:
        return captioner.greedy(context, generation)
    return captioner.beam_search(context, generation)


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
    loader = DataLoader(
        dataset,  # type: ignore[arg-type]  # a datasets.Dataset is one to torch
        batch_size=batch_size,
        collate_fn=VisualCollator(captioner.preprocessor, features),
        num_workers=workers,
    )
    bad = BadImageCounter(len(dataset), max_bad_images)
    captions: dict[str, str] = {}
    with evaluating(captioner):
        for batch in progress(loader, desc="captions", unit="batch", leave=False, disable=not bar):
            bad.extend(batch["bad"])
            if batch["visual"] is None:
                if captioner.synchronised:  # the other ranks wait for this one
                    decode_best(captioner, nothing(captioner)[0], generation)
                continue
            tokens = decode_best(captioner, to_device(batch["visual"], captioner.device), generation)
            texts = captioner.decode(tokens)
            captions.update({row["image_id"]: text[0] for row, text in zip(batch["rows"], texts, strict=True)})
    return captions
