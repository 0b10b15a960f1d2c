"""Pictures and clips as rewards are handed them: named so that each is encoded once, and opened when looked at."""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from rewards.completions import column

Frames = tuple[Image.Image, ...]


class LazyImages(Sequence[Any]):
    """A column `images` whose pictures are opened when they are looked at, each once.

    open: opens one of the B `sources`; `repeats` captions in a row belong to each. For rewards that keep what they have
    seen by image_id and say `lazy_images = True`: what they know is not decoded again.
    """

    def __init__(self, open: Callable[[Any], Any], sources: Sequence[Any], repeats: int = 1) -> None:
        self._open = open
        self._sources = sources
        self._repeats = repeats
        self._opened: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._sources) * self._repeats

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index] // self._repeats
        if position not in self._opened:
            self._opened[position] = self._open(self._sources[position])
        return self._opened[position]


class Pictures(Mapping[Hashable, Frames]):
    """What B captions are of: `names`, one a caption, and by name the frames of each picture or clip, one or more.

    images: a PIL picture, or a list of them (TRL's form of a picture, or a clip's frames), one a caption. image: TRL's
    other column, read where there is no `images`. The name is the image_id; where that is None, a hash of the pixels.
    Frames are looked at when they are asked for, so those whose name is known already need not be.

    Raises ValueError where neither column is there, and naming the row of what is no picture when it is looked at.
    """

    names: list[Hashable]

    def __init__(
        self,
        images: Sequence[Any] | None,
        image: Sequence[Any] | None,
        image_id: Sequence[Any] | None,
        length: int,
        reward: str,
    ) -> None:
        self._column, values = ("image", image) if images is None and image is not None else ("images", images)
        self._values = column(values, self._column, length, reward)
        self._reward = reward
        ids = [None] * length if image_id is None else column(image_id, "image_id", length, reward)
        # The K captions of a picture mostly share one object, which is held so that no other one gets its id.
        hashed: dict[int, tuple[Hashable, Any]] = {}
        self.names = [self._name(row, own_id, hashed) for row, own_id in enumerate(ids)]
        self._rows: dict[Hashable, int] = {}
        for row, name in enumerate(self.names):
            self._rows.setdefault(name, row)

    def __getitem__(self, name: Hashable) -> Frames:
        return self._frames(self._rows[name])

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _name(self, row: int, own_id: Any, hashed: dict[int, tuple[Hashable, Any]]) -> Hashable:
        if own_id is not None:
            return "id", own_id
        visual = self._values[row]
        if id(visual) not in hashed:
            hashed[id(visual)] = ("pixels", _content(self._checked(visual, row))), visual
        return hashed[id(visual)][0]

    def _frames(self, row: int) -> Frames:
        return self._checked(self._values[row], row)

    def _checked(self, visual: Any, row: int) -> Frames:
        frames = (visual,) if isinstance(visual, Image.Image) else visual
        pictures = isinstance(frames, Sequence) and frames and all(isinstance(own, Image.Image) for own in frames)
        if not pictures:
            raise ValueError(
                f"{self._reward}: row {row} of the column {self._column!r} is {visual!r:.80}; give a PIL picture, or a "
                "list of them (the frames of a clip)"
            )
        return tuple(frames)


def _content(frames: Frames) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(f"{frame.mode} {frame.size}".encode())
        digest.update(frame.tobytes())
    return digest.hexdigest()
