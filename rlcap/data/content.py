"""What a row holds as its picture or video: a path, bytes, bytes with a name, or a place in a tar shard."""

import os
import re
from collections.abc import Mapping
from typing import Any

import fsspec

# {"bytes": …, "path": …} is how `datasets` stores pictures; "shard.tar::member@offset+size" is a place in a shard
Source = str | os.PathLike[str] | bytes | Mapping[str, Any]
_PLACE = re.compile(r"(?P<shard>.+?\.tar)::(?P<member>.*)@(?P<offset>\d+)\+(?P<size>\d+)", re.DOTALL)


class BadImage(ValueError):
    """A picture or video that cannot be decoded: `path` names it, `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # both as args, so that the exception survives pickling
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def looked_at(row: Mapping[str, Any]) -> list[Source]:
    """Return the picture, the frames or the video of a row, as its files."""
    return list(row["frames"]) if "frames" in row else [row["video"] if "video" in row else row["image"]]


def place(shard: str, member: str, offset: int, size: int) -> str:
    """Return the address of `size` bytes at `offset` of a shard (a path or any fsspec address), the file `member`."""
    return f"{shard}::{member}@{offset}+{size}"


def named(source: Source) -> str:
    """Return how messages name a source: its path, "shard.tar::member", or its size where it is but bytes."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    if isinstance(source, Mapping):
        return str(source["path"]) if source.get("path") else named(source.get("bytes") or b"")
    found = _PLACE.fullmatch(os.fspath(source))
    return f"{found['shard']}::{found['member']}" if found else os.fspath(source)


def address_of(source: Source) -> str | None:
    """The file, or the shard, that a source is read from: a path or an fsspec address; None where it is all bytes."""
    if isinstance(source, bytes):
        return None
    if isinstance(source, Mapping):
        return address_of(source["path"]) if source.get("bytes") is None and source.get("path") else None
    path = os.fspath(source)
    found = _PLACE.fullmatch(path)
    return found["shard"] if found else path


def readable(source: Source) -> str | bytes:
    """Return what a decoder opens: a path that is there, or bytes that are not empty; raises BadImage otherwise."""
    if isinstance(source, Mapping):
        content = source.get("bytes")
        if content is None and source.get("path"):
            return readable(source["path"])
        return _not_empty(content or b"", named(source))
    if isinstance(source, bytes):
        return _not_empty(source, named(source))
    path = os.fspath(source)
    if found := _PLACE.fullmatch(path):
        return _not_empty(_read(found["shard"], int(found["offset"]), int(found["size"]), named(path)), named(path))
    if os.path.isdir(path):
        raise BadImage(path, "is a folder")
    if not os.path.exists(path):
        raise BadImage(path, "there is no such file")
    return path


def content_of(source: Source) -> bytes:
    """Return all bytes of a source; raises BadImage where there are none to be had."""
    content = readable(source)
    if isinstance(content, bytes):
        return content
    try:
        with open(content, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadImage(content, f"cannot be read ({error.strerror})") from error


def _not_empty(content: bytes, name: str) -> bytes:
    if not content:
        raise BadImage(name, "is empty")
    return content


def _read(shard: str, offset: int, size: int, name: str) -> bytes:
    try:
        if "://" in shard:
            system, path = fsspec.core.url_to_fs(shard)
            content = system.cat_file(path, start=offset, end=offset + size)
        else:
            with open(shard, "rb") as file:
                file.seek(offset)
                content = file.read(size)
    except OSError as error:
        raise BadImage(name, f"its shard cannot be read ({error})") from error
    if len(content) != size:
        raise BadImage(name, f"its shard has {len(content)} of its {size} bytes: it has changed, or was cut off")
    return content
