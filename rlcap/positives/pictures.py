"""Pictures v' for captions, by a text-to-image pipeline of `diffusers`."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import datasets
import torch
from PIL import Image

from rlcap.data.shared_rows import Make, Row
from rlcap.disk import writing
from rlcap.training.randomness import generator_of, seed_of

FOLDER = "pictures"
_LONGEST_NAME = 150


def load_pipeline(model: str, dtype: str, device: torch.device) -> Any:
    """The text-to-image pipeline of a directory or Hub id.

    Raises ValueError where diffusers is not installed, or there is no such pipeline.
    """
    try:
        from diffusers import AutoPipelineForText2Image
    except ImportError as error:
        raise ValueError(
            f"generating pictures needs diffusers, which cannot be imported ({error}): pip install 'rlcap[diffusion]'"
        ) from error
    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(model, torch_dtype=getattr(torch, dtype))
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{model} cannot be loaded as a text-to-image pipeline of diffusers: {error}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def chosen_captions(dataset: datasets.Dataset, seed: int) -> list[str]:
    """One reference a row, by (seed, image_id)."""
    columns = dataset.select_columns(["image_id", "references"])
    return [row["references"][seed_of(seed, row["image_id"], "caption") % len(row["references"])] for row in columns]


def picture_maker(
    pipeline: Any, dataset: datasets.Dataset, folder: Path, *, seed: int, options: dict[str, Any]
) -> Make:
    """What `write_manifest` calls: batches of row numbers to rows with the `caption` that was drawn and the `file`.

    Noise is drawn by (seed, image_id) on the CPU, so it is the same in any batch and on any device. options: further
    arguments of the pipeline's call. A caption that the pipeline fails on, or whose picture its safety checker
    withholds, fails alone; the others of its batch are made.
    """
    ids, captions = list(dataset["image_id"]), chosen_captions(dataset, seed)
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)

    def draw(rows: list[int]) -> list[Image.Image | None]:
        noise = [generator_of("cpu", seed, ids[row], "picture") for row in rows]
        made = pipeline(prompt=[captions[row] for row in rows], generator=noise, **options)
        withheld = made.get("nsfw_content_detected") or [False] * len(rows)
        return [None if hidden else picture for picture, hidden in zip(made.images, withheld, strict=True)]

    def one_by_one(rows: list[int]) -> list[Image.Image | Exception | None]:
        drawn: list[Image.Image | Exception | None] = []
        for row in rows:
            try:
                drawn += draw([row])
            except Exception as error:  # a pipeline may raise anything, on this caption alone
                drawn.append(error)
        return drawn

    def make(batches: list[list[int]]) -> Iterator[list[Row]]:
        for rows in batches:
            drawn: list[Any]
            try:
                drawn = draw(rows)
            except Exception:  # told of the caption that it is of
                drawn = one_by_one(rows)
            yield [_row(folder, ids[row], captions[row], own) for row, own in zip(rows, drawn, strict=True)]

    return make


def _row(folder: Path, image_id: str, caption: str, drawn: Image.Image | Exception | None) -> Row:
    if not isinstance(drawn, Image.Image):
        why = "withheld by the safety checker" if drawn is None else f"{type(drawn).__name__}: {drawn}"
        return {"image_id": image_id, "caption": caption, "failed": why}
    file = f"{FOLDER}/{_file_name(image_id)}"
    unfinished = folder / f"{file}.unfinished"
    with writing("a picture", unfinished.parent):
        drawn.save(unfinished, "PNG")
        unfinished.replace(folder / file)
    return {"image_id": image_id, "caption": caption, "file": file}


def _file_name(image_id: str) -> str:
    """A name that any file system takes, another one for another id."""
    safe = quote(image_id, safe=" ")
    if len(safe) > _LONGEST_NAME or safe.startswith("."):
        safe = f"{safe[:_LONGEST_NAME].lstrip('.')}-{hashlib.sha256(image_id.encode()).hexdigest()[:16]}"
    return f"{safe}.png"
