"""A sheet of pictures with their captions, to see what a data set is."""

import random
import textwrap
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image, ImageDraw, ImageFont, ImageOps

from rlcap.data.content import BadImage, looked_at
from rlcap.data.images import open_image
from rlcap.data.video import FrameChoice, open_video

CELL = 220  # pixels, the side of a picture
TEXT = 66  # pixels below it
FRAMES = 4  # of a clip, in two rows


def contact_sheet(dataset: Dataset, path: Path, columns: int = 6, rows: int = 4, seed: int = 0) -> int:
    """Draw `columns` x `rows` rows of a data set, drawn from the seed, into a PNG file; returns how many are on it.

    Below a picture stand its id, its split and its first caption; of a clip or video four frames are shown; in the
    place of a picture that cannot be decoded stands why. Raises ValueError for a sheet without room.
    """
    if columns < 1 or rows < 1:
        raise ValueError(f"a grid of {columns} x {rows} pictures has no room for one")
    chosen = sorted(random.Random(seed).sample(range(len(dataset)), min(columns * rows, len(dataset))))
    lines = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * CELL, lines * (CELL + TEXT)), "white")
    font = ImageFont.load_default(size=11)
    for place, at in enumerate(chosen):
        row = dataset[at]
        left, top = place % columns * CELL, place // columns * (CELL + TEXT)
        sheet.paste(_cell(row, font), (left, top))
        caption = row["references"][0] if row["references"] else "(no references)"
        text = textwrap.wrap(f"{row['image_id']} ({row['split']})", 38)[:1] + textwrap.wrap(caption, 38)[:3]
        ImageDraw.Draw(sheet).text((left + 4, top + CELL + 2), "\n".join(text), fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    sheet.save(unfinished, "PNG")
    unfinished.replace(path)
    return len(chosen)


def _cell(row: dict[str, Any], font: Any) -> Image.Image:
    cell = Image.new("RGB", (CELL, CELL), "white")
    side = CELL - 4
    try:
        pictures = _pictures(row)
    except BadImage as error:
        draw = ImageDraw.Draw(cell)
        draw.rectangle((2, 2, CELL - 3, CELL - 3), fill="#ffe0e0", outline="red")
        draw.text((8, 8), "\n".join(textwrap.wrap(error.reason, 34)[:12]), fill="black", font=font)
        return cell
    if len(pictures) > 1:
        side //= 2
    for number, picture in enumerate(pictures):
        small = ImageOps.contain(picture, (side, side))
        cell.paste(small, (2 + number % 2 * side, 2 + number // 2 * side))
    return cell


def _pictures(row: dict[str, Any]) -> list[Image.Image]:
    if "video" in row:
        return open_video(row["video"], FrameChoice("uniform", FRAMES))
    sources = looked_at(row)
    return [
        open_image(sources[len(sources) * n // min(FRAMES, len(sources))]) for n in range(min(FRAMES, len(sources)))
    ]
