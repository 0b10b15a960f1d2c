"""open_image on what people's folders hold, and the counting of what it cannot open."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlcap.data.images import BadImage, BadImageCounter, open_image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixel(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = open_image(data)
    assert image.mode == "RGB"
    return image.getpixel(at)  # type: ignore[return-value]


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (6, 4), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert open_image(encoded(image, "JPEG", exif=exif)).size == (4, 6)


def test_modes() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert pixel(encoded(red.convert("P"), "PNG")) == (255, 0, 0)
    assert pixel(encoded(Image.new("1", (4, 4), 1), "PNG")) == (255, 255, 255)
    assert pixel(encoded(red.convert("CMYK"), "TIFF")) == (255, 0, 0)
    frames = [red, Image.new("RGB", (4, 4), "blue")]
    assert pixel(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_transparency_is_laid_on_white() -> None:
    assert pixel(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")) == (255, 255, 255)
    assert pixel(encoded(Image.new("LA", (4, 4), (0, 128)), "PNG")) == (127, 127, 127)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 32768, 65535]], dtype=np.uint16), (0, 128, 255)),
        (np.array([[0, 128, 255]], dtype=np.int32), (0, 128, 255)),
        (np.array([[0, 0.5, 1.0]], dtype=np.float32), (0, 128, 255)),
        (np.array([[0, 128, 255]], dtype=np.float32), (0, 128, 255)),
    ],
)
def test_deep_grey_is_scaled_and_not_clipped(values: np.ndarray, expected: tuple[int, ...]) -> None:
    image = open_image(encoded(Image.fromarray(values), "TIFF"))
    assert tuple(np.asarray(image)[0, :, 0]) == expected


def test_bad_pictures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.jpg").write_bytes(encoded(noise, "JPEG")[:900])
    (tmp_path / "cut.png").write_bytes(encoded(noise, "PNG")[:900])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "text.jpg": "not a picture",
        "cut.jpg": "cannot be decoded .*truncated",
        "cut.png": "cannot be decoded",
        "empty.jpg": "not a picture",
        "folder.jpg": "is a folder",
        "gone.jpg": "there is no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImage, match=reason) as error:
            open_image(tmp_path / name)
        assert error.value.path == str(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
    with pytest.raises(BadImage, match="<0 bytes>: is empty"):
        open_image(b"")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.raises(BadImage, match="has 64 x 64 pixels, more than the 4095 allowed"):
        open_image(encoded(noise, "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # from twice the limit on, Pillow itself refuses
    with pytest.raises(BadImage, match="DecompressionBomb"):
        open_image(encoded(noise, "PNG"))


def test_bad_image_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(BadImage("a.jpg", "broken")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "broken", "a.jpg: broken")


@pytest.mark.parametrize(
    ("total", "fraction", "allowed"), [(1000, 0.01, 10), (1001, 0.01, 11), (3, 0.01, 1), (3, 0.0, 0), (100, 0.07, 7)]
)
def test_how_many_are_allowed(total: int, fraction: float, allowed: int) -> None:
    counter = BadImageCounter(total, fraction)
    assert counter.allowed == allowed
    counter.extend([(str(n), "broken") for n in range(allowed)], warn=False)
    with pytest.raises(ValueError, match=f"{allowed + 1} of {total} pictures cannot be decoded"):
        counter.extend([("one more", "broken")], warn=False)


def test_every_bad_picture_is_counted_once_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    counter = BadImageCounter(200)
    counter.add("a.jpg", "broken")
    counter.add("a.jpg", "broken")  # the next epoch
    assert capsys.readouterr() == ("", "rlcap: skipped a picture: a.jpg: broken\n")
    assert counter.bad == {"a.jpg": "broken"}
    with pytest.raises(ValueError, match=r"(?s)27 of 200 .* the 2 that .*a\.jpg: broken.* and 7 more"):
        counter.extend([(f"{n}.jpg", "gone") for n in range(26)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 19
    assert lines[-1].endswith("18.jpg: gone; further ones are counted, not named")


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        BadImageCounter(10, fraction)
