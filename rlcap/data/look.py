"""A look at one picture or video: whether its file is whole, and what tells it from others; decoded only if asked."""

import hashlib
import io
import os
from typing import Any, NamedTuple

from PIL import Image

from rlcap.data.content import BadImage, Source, content_of, named, readable
from rlcap.data.images import check_size, open_image
from rlcap.data.video import check_video

SAMPLE = 4096  # bytes at both ends of a file that are compared before all of it is


class Print(NamedTuple):
    """The size of a file in bytes, and a digest of its two ends."""

    size: int
    digest: bytes


def look_at(source: Source, video: bool = False, decode: bool = False) -> Print:
    """Return the fingerprint of a picture or video; raises BadImage where its header or its end is wrong.

    The fast look reads the header and the two ends: a picture whose format marks its end (JPEG, PNG, GIF, WebP) and
    that has no such mark is decoded to see. `decode` decodes all of every file, which finds damage in the middle.
    """
    name = named(source)
    content = readable(source)
    try:
        with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            tail = _at(file, max(0, size - SAMPLE))
            head = _at(file, 0)
            if not size:
                raise BadImage(name, "is empty")
            if not video:
                file.seek(0)
                with Image.open(file) as image:
                    check_size(image, name)
                    decode = decode or not _ends(image.format, head, tail, size)
    except BadImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage(name, "is not a picture in a format that Pillow knows") from error
    except Exception as error:  # decoders raise nearly anything on broken bytes
        raise BadImage(name, f"cannot be read ({type(error).__name__}: {error})") from error
    if video:
        check_video(content, decode)
    elif decode:
        _decode(content, name)
    return Print(size, hashlib.blake2b(head + tail, digest_size=16).digest())


def content_hash(source: Source) -> bytes:
    """Return a hash of all bytes of a file; raises BadImage where it cannot be read."""
    return hashlib.blake2b(content_of(source), digest_size=16).digest()


def _at(file: Any, start: int) -> bytes:
    file.seek(start)
    return file.read(SAMPLE)


def _ends(format: str | None, head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file ends as its format says; True for formats that say nothing."""
    if format in ("JPEG", "MPO"):
        return b"\xff\xd9" in tail
    if format == "PNG":
        return b"IEND\xaeB`\x82" in tail
    if format == "GIF":
        return tail.rstrip(b"\0").endswith(b";")
    if format == "WEBP":
        return size >= int.from_bytes(head[4:8], "little") + 8
    return True


def _decode(content: str | bytes, name: str) -> None:
    try:
        open_image(content)
    except BadImage as error:
        raise BadImage(name, error.reason) from error
