"""Opening pictures that come from anywhere, and bookkeeping for those that cannot be opened."""

import io
import math
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from rlcap import console
from rlcap.data.content import BadImage, Source, named, readable
from rlcap.data.stores import patiently
from rlcap.failures import Failure

NAMED = 20  # bad pictures that are named one by one in notices and errors


def open_image(source: Source) -> Image.Image:
    """Return the picture in a file, in bytes or in a tar shard, as 8-bit RGB, turned as its EXIF orientation says.

    Of an animation the first frame counts; transparency is laid on white; 16-bit and floating-point grey is scaled to
    8 bits (Pillow's own conversion would clip it to white). Raises BadImage for a missing file, one that is no picture,
    is cut off or broken, or has more than `PIL.Image.MAX_IMAGE_PIXELS` pixels (a decompression bomb); StoreGone where
    not the picture but its store is missing (`rlcap.data.stores`).
    """
    return patiently(source, lambda: _open(source))


def _open(source: Source) -> Image.Image:
    name = named(source)
    content = readable(source)
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            check_size(image, name)
            return _rgb(ImageOps.exif_transpose(image))
    except BadImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage(name, "is not a picture in a format that Pillow knows") from error
    except Exception as error:  # decoders raise nearly anything on broken bytes: struct.error, SyntaxError, IndexError
        raise BadImage(name, f"cannot be decoded ({type(error).__name__}: {error})") from error


def check_size(image: Image.Image, name: str) -> None:
    """Raise BadImage for a picture of more pixels than `PIL.Image.MAX_IMAGE_PIXELS`."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise BadImage(name, f"has {image.width} x {image.height} pixels, more than the {limit} allowed")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits to 8, by the depth that its mode or its brightest pixel implies."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    brightest = float(values.max(initial=0.0))
    if image.mode.startswith("I;16"):
        full = 65535.0
    else:  # 32-bit integers and floats hold 0..1, 0..255 or 0..65535 by custom; nothing in the file says which
        customary = [1.0] if image.mode == "F" else []
        full = next((top for top in (*customary, 255.0, 65535.0) if brightest <= top), brightest)
    return Image.fromarray(np.clip(np.round(values * (255.0 / full)), 0, 255).astype(np.uint8))


class TooManyBadImages(Failure, ValueError):
    """More pictures cannot be decoded than may be; the message lists them."""


class BadImageCounter:
    """Names and counts pictures that could not be decoded, and stops the run when there are too many.

    Allowed are `ceil(limit_fraction * total)` of `total` pictures or clips: one in a small set, none where
    `limit_fraction` is 0. A path counts once, however many epochs meet it. Decoding happens in worker processes, which
    cannot share a counter: they return `(path, reason)` pairs, and the main process hands them to `extend`.
    """

    def __init__(self, total: int, limit_fraction: float = 0.01) -> None:
        """`total` pictures or clips; raises ValueError for a fraction outside [0, 1]."""
        if not 0.0 <= limit_fraction <= 1.0:
            raise ValueError(
                f"max_bad_images is the fraction of pictures that may be bad, between 0 and 1, not {limit_fraction}"
            )
        self.total = total  # may grow, where rows are counted as they come
        self.limit_fraction = limit_fraction
        self.bad: dict[str, str] = {}

    @property
    def allowed(self) -> int:
        """How many may be bad."""
        return math.ceil(round(self.limit_fraction * self.total, 6))  # 0.07 * 100 is 7.000000000000001

    def add(self, path: str, reason: str) -> None:
        """Count one bad picture with a notice; raises TooManyBadImages past the limit."""
        self.extend([(path, reason)])

    def extend(self, bad: Iterable[tuple[str, str]], warn: bool = True) -> None:
        """Count what a worker process, or an earlier run, returned; raises as `add` does."""
        for path, reason in bad:
            if path in self.bad:
                continue
            self.bad[path] = reason
            if warn and len(self.bad) <= NAMED:
                rest = "; further ones are counted, not named" if len(self.bad) == NAMED else ""
                console.warn(f"skipped a picture: {path}: {reason}{rest}")
        if len(self.bad) > self.allowed:
            raise TooManyBadImages(
                f"{len(self.bad)} of {self.total} pictures cannot be decoded, more than the {self.allowed} that "
                f"max_bad_images allows:\n{self.listing()}"
            )

    def listing(self) -> str:
        """Return one line for each of the first 20 bad pictures, and how many more there are."""
        lines = [f"  {path}: {reason}" for path, reason in list(self.bad.items())[:NAMED]]
        if len(self.bad) > NAMED:
            lines.append(f"  and {len(self.bad) - NAMED} more")
        return "\n".join(lines)
