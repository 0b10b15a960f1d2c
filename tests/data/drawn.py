"""Small real files that the tests of sources share: pictures, tar shards and videos whose frames tell their time."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image


def png(value: int, side: int = 8) -> bytes:
    """A picture whose red is `value`."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes | str | dict[str, Any]]]) -> Path:
    """A shard of (name, content); dictionaries are written as JSON."""
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            text = json.dumps(content) if isinstance(content, dict) else content
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder: Path, rows_of: list[int], split: str = "train") -> list[str]:
    """Shards 0.tar, 1.tar … of so many rows each, all rows numbered through: "r3" has red 3 and the caption "row 3"."""
    number, names = 0, []
    for shard, rows in enumerate(rows_of):
        files: list[tuple[str, bytes | str | dict[str, Any]]] = []
        for _ in range(rows):
            files += [
                (f"r{number}.png", png(number)),
                (f"r{number}.json", {"caption": f"row {number}", "split": split}),
            ]
            number += 1
        names.append(str(write_tar(folder / f"{shard}.tar", files)))
    return names


def write_video(path: Path, frames: int = 50, fps: int = 10, key_every: int = 12, container: str | None = None) -> Path:
    """A clip in which frame n is grey of brightness 4 n (so 50 frames tell themselves apart after compression)."""
    import av

    with av.open(str(path), "w", format=container, options={"movflags": "faststart"}) as file:
        stream = file.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 32, 32, "yuv420p", key_every
        stream.bit_rate = 2_000_000
        for n in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (32, 32), (4 * n,) * 3))))
        file.mux(stream.encode())
    return path


def frame_number(image: Image.Image) -> int:
    """Which frame of `write_video` a picture is."""
    return round(image.getpixel((16, 16))[0] / 4)  # type: ignore[index]
