"""Running a captioner's vision tower over a data set, once: resumable, and shared out over ranks."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from captioners.weights import fingerprint
from rlcap.console import progress
from rlcap.data.collate import VisualCollator, open_visual
from rlcap.data.features import FORMAT, FeatureStore, FeatureWriter, open_writers
from rlcap.data.images import BadImage, BadImageCounter
from rlcap.data.video import FrameChoice
from rlcap.disk import writing

PROBED = 64  # pixel values that tell preprocessors apart


class SeesFeatures(Protocol):
    """What is asked of a captioner here; `captioners.GridCaptioner` has all of it."""

    training: bool

    @property
    def preprocessor(self) -> Callable[[Any], dict[str, Tensor]]: ...
    @property
    def device(self) -> torch.device: ...
    def features(self, visual: dict[str, Tensor]) -> Tensor: ...
    def parts(self) -> dict[str, list[nn.Module]]: ...
    def train(self, mode: bool = True) -> Any: ...


def feature_header(captioner: SeesFeatures, frames: int = 1, video_frames: str | None = None) -> dict[str, Any]:
    """Return what determines a captioner's features, to be compared with a store's (`FeatureStore.check`).

    The vision tower counts by its classes and a hash of its weights and their types; the preprocessor by what it makes
    of a fixed test picture, which sees every setting whatever its name; `frames` is the most that a clip has, and
    `video_frames` how those of videos are chosen.
    """
    vision = captioner.parts()["vision"]
    return {
        "format": FORMAT,
        "vision_model": "+".join(type(module).__name__ for module in vision),
        "weights": fingerprint(vision),
        "preprocessor": _probe(captioner.preprocessor),
        "frames": frames,
        **({} if video_frames is None else {"video_frames": video_frames}),
    }


def most_frames(dataset: Dataset) -> int:
    """Return the frames of the longest clip of a data set; 1 for pictures."""
    if "video_frames" in dataset.column_names:
        return max(FrameChoice.parse(choice).most for choice in dataset.unique("video_frames"))
    return max(map(len, dataset["frames"])) if "frames" in dataset.column_names else 1


def frames_of(*used: Dataset) -> dict[str, Any]:
    """Return `frames` and `video_frames` of `feature_header` for data sets.

    Where rows have moments of their own, that is all it says: moments that have changed since are not noticed.
    """
    choices = {
        choice for dataset in used if "video" in dataset.column_names for choice in dataset.unique("video_frames")
    }
    kinds = sorted({"timestamps" if choice.startswith("times:") else choice for choice in choices})
    return {"frames": max(map(most_frames, used)), "video_frames": ", ".join(kinds) or None}


def stored_features(folder: str | os.PathLike[str], captioner: SeesFeatures, *used: Dataset) -> FeatureStore:
    """The features in `folder`; ValueError where another model made them, or pictures of the data sets are missing."""
    store = FeatureStore(folder)
    store.check(feature_header(captioner, **frames_of(*used)))
    for dataset in used:
        store.require(dataset["image_id"])
    return store


def write_features(
    captioner: SeesFeatures,
    dataset: Dataset,
    output: str | os.PathLike[str],
    batch_size: int = 32,
    num_workers: int = 0,
    rank: int = 0,
    world: int = 1,
    max_bad_images: float = 0.01,
    flush_seconds: float = 10.0,
    made_with: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Write the features of `dataset`'s pictures or clips into the folder `output`, and return it opened.

    Rank `rank` of `world` does every `world`-th row, into files of its own. What is there already is not done again:
    a killed run loses at most `flush_seconds`. Batches are the same after a resume, so the values are too. Pictures
    that cannot be decoded are noted and skipped; those noted by an earlier run are tried again. `made_with`: what
    determines the features beside what `feature_header` says, for the header.

    Raises ValueError where ids repeat, where more than the fraction `max_bad_images` of the rank's pictures cannot be
    decoded, and where `output` holds the features of another model, preprocessor or number of frames.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be 0 to {world - 1} for {world} processes, not {rank}")
    ids = list(dataset["image_id"])
    twice = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"image ids must differ; these repeat: {', '.join(twice[:5])}")
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    mine = ids[rank::world]
    counter = BadImageCounter(len(mine), max_bad_images)
    header = {**feature_header(captioner, **frames_of(dataset)), **(made_with or {})}
    writers = open_writers(Path(output), header, ids, rank, world)
    todo = sum(int((writer.state == 0).sum()) for writer in writers)
    was_training = captioner.training
    captioner.train(False)
    try:
        with progress(
            total=len(mine),
            initial=max(0, len(mine) - todo),
            desc="features" if world == 1 else f"features, rank {rank} of {world}",
            unit="picture" if "image" in dataset.column_names else "clip",
            disable=rank != 0,
        ) as bar:
            for writer in writers:
                with writing("the features", Path(output)), writer:
                    _retry_bad(writer, dataset, row_of, counter)
                    for done in _write_shard(
                        writer, captioner, dataset, row_of, batch_size, num_workers, counter, flush_seconds
                    ):
                        bar.update(done)
    finally:
        captioner.train(was_training)
    return FeatureStore(output)


def _retry_bad(writer: FeatureWriter, dataset: Dataset, row_of: Mapping[str, int], counter: BadImageCounter) -> None:
    for image_id in list(writer.bad):
        if image_id not in row_of:
            continue
        try:
            open_visual(dataset[row_of[image_id]])
        except BadImage as error:
            counter.extend([(error.path, error.reason)], warn=False)
        else:
            writer.retry(writer.ids.index(image_id))


def _write_shard(
    writer: FeatureWriter,
    captioner: SeesFeatures,
    dataset: Dataset,
    row_of: Mapping[str, int],
    batch_size: int,
    num_workers: int,
    counter: BadImageCounter,
    flush_seconds: float,
) -> Iterator[int]:
    """Do what a shard lacks, yielding how many rows are new after each batch.

    Batches are cut from the shard's rows, not from what is left of them, and done whole: sums over a batch of another
    size may round differently.
    """
    batches = []
    for start in range(0, len(writer.ids), batch_size):
        rows = [row for row in range(start, min(start + batch_size, len(writer.ids))) if writer.ids[row] in row_of]
        if any(writer.state[row] == 0 for row in rows):
            batches.append(rows)
    loader: DataLoader[dict[str, Any]] = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=[[row_of[writer.ids[row]] for row in rows] for rows in batches],
        collate_fn=VisualCollator(captioner.preprocessor),
        num_workers=num_workers,
    )
    flushed = time.monotonic()
    for rows, batch in zip(batches, loader, strict=True):
        kept = {row["image_id"] for row in batch["rows"]}
        lost = [row for row in rows if writer.ids[row] not in kept]
        for row, (path, reason) in zip(lost, batch["bad"], strict=True):
            if writer.ids[row] not in writer.bad:
                writer.mark_bad(row, path, reason)
        counter.extend(batch["bad"])
        if batch["visual"] is not None:
            features, lengths = _features(captioner, batch["visual"])
            writer.write([row for row in rows if writer.ids[row] in kept], features, lengths)
        new = sum(int(writer.state[row] == 0) for row in rows)
        if time.monotonic() - flushed >= flush_seconds:
            writer.flush()
            flushed = time.monotonic()
        yield new


def _features(captioner: SeesFeatures, visual: dict[str, Tensor]) -> tuple[np.ndarray, list[int]]:
    """Return features [b, F, N, Dv] and the number of frames of each clip."""
    with torch.inference_mode():
        moved = {name: tensor.to(captioner.device) for name, tensor in visual.items()}
        features = captioner.features(moved).float().cpu().numpy()
    if "frame_mask" in visual:
        return features, visual["frame_mask"].sum(dim=1).tolist()
    return features, [features.shape[1]] * len(features)


def _probe(preprocessor: Callable[[Any], dict[str, Tensor]]) -> dict[str, Any]:
    """What `preprocessor` makes of a picture in which neighbours differ: its shape, and some of its values."""
    y, x, channel = np.ogrid[:120, :160, :3]
    pixels = (37 * x + 91 * y + 53 * channel + (x * y) % 61 + 2 * x) % 256
    values = preprocessor([Image.fromarray(pixels.astype(np.uint8))])["pixel_values"].float()
    flat = values.flatten()
    chosen = torch.linspace(0, len(flat) - 1, PROBED).long()
    return {"shape": list(values.shape[1:]), "probe": [round(value, 4) for value in flat[chosen].tolist()]}
