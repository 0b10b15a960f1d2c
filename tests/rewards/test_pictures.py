"""Pictures and clips as they are handed to rewards."""

import pytest
from PIL import Image

from rewards.pictures import checked_pictures

RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")


def names(images=None, image=None, image_id=None, length=None) -> list:
    length = len(images if images is not None else image) if length is None else length
    return [name for name, _ in checked_pictures(images, image, image_id, length, "clip-s")]


def test_pictures_are_named_by_id_else_by_pixels() -> None:
    assert names([RED, BLUE], image_id=["x", "x"]) == [("id", "x"), ("id", "x")]
    a, b, c, d = names([RED, RED.copy(), BLUE, [RED, BLUE]])
    assert a == b
    assert len({a, c, d}) == 3
    assert names([RED, RED], image_id=["x", None])[1] == a


def test_trl_hands_pictures_in_lists_and_as_image() -> None:
    assert names([[RED]]) == names([RED]) == names(image=[RED])


@pytest.mark.parametrize("broken", [None, "a.jpg", [], [RED, "a.jpg"], {"bytes": b""}])
def test_what_is_no_picture_is_named_by_its_row(broken) -> None:
    with pytest.raises(ValueError, match="clip-s: row 1 of the column 'images' is "):
        names([RED, broken])


def test_missing_columns() -> None:
    with pytest.raises(ValueError, match="the column 'images' is missing"):
        names(length=2)
    with pytest.raises(ValueError, match="the column 'image_id' has 1 values for 2"):
        names([RED, BLUE], image_id=["x"])
