"""Pictures and clips as rewards are handed them: checked, and named so that each is encoded once."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any

from PIL import Image

from rewards.completions import column

Frames = tuple[Image.Image, ...]


def checked_pictures(
    images: Sequence[Any] | None, image: Sequence[Any] | None, image_id: Sequence[Any] | None, length: int, reward: str
) -> list[tuple[Hashable, Frames]]:
    """One (name, frames) for each of `length` captions; a picture is one frame.

    images: a PIL picture, or a list of them (TRL's form of a picture, or a clip's frames), one a caption. image: TRL's
    other column, read where there is no `images`. The name is the image_id, or where that is None a hash of the pixels.
    Raises ValueError naming the row of what is no picture, and where neither column is there.
    """
    name, values = ("image", image) if images is None and image is not None else ("images", images)
    rows = column(values, name, length, reward)
    ids = column(image_id, "image_id", length, reward) if image_id is not None else [None] * length
    hashed: dict[int, Hashable] = {}  # the K captions of a picture mostly share one object
    pairs: list[tuple[Hashable, Frames]] = []
    for row, (visual, own_id) in enumerate(zip(rows, ids, strict=True)):
        frames = _frames(visual, row, name, reward)
        if own_id is not None:
            pairs.append((("id", own_id), frames))
            continue
        if id(visual) not in hashed:
            hashed[id(visual)] = ("pixels", _content(frames))
        pairs.append((hashed[id(visual)], frames))
    return pairs


def _frames(visual: Any, row: int, name: str, reward: str) -> Frames:
    frames = (visual,) if isinstance(visual, Image.Image) else visual
    if not isinstance(frames, Sequence) or not frames or not all(isinstance(frame, Image.Image) for frame in frames):
        raise ValueError(
            f"{reward}: row {row} of the column {name!r} is {visual!r:.80}; give a PIL picture, or a list of them (the "
            "frames of a clip)"
        )
    return tuple(frames)


def _content(frames: Frames) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(f"{frame.mode} {frame.size}".encode())
        digest.update(frame.tobytes())
    return digest.hexdigest()
