"""Pictures and clips as they are handed to rewards."""

from collections.abc import Sequence

import pytest
from PIL import Image

from rewards.pictures import LazyImages, Pictures

RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")


def gathered(images=None, image=None, image_id=None, length=None) -> Pictures:
    length = len(images if images is not None else image) if length is None else length
    return Pictures(images, image, image_id, length, "clip-s")


def names(*columns, **named) -> list:
    return gathered(*columns, **named).names


def test_pictures_are_named_by_id_else_by_pixels() -> None:
    assert names([RED, BLUE], image_id=["x", "x"]) == [("id", "x"), ("id", "x")]
    a, b, c, d = names([RED, RED.copy(), BLUE, [RED, BLUE]])
    assert a == b
    assert len({a, c, d}) == 3
    assert names([RED, RED], image_id=["x", None])[1] == a


class Opening(Sequence):
    """A column that opens a picture at each look, as one of `datasets` does."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, row: int) -> Image.Image:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return Image.new("RGB", (4, 4), (row, 0, 0))


def test_a_picture_that_is_opened_where_another_one_was_is_told_apart() -> None:
    assert len(set(names(Opening()))) == 50


def test_trl_hands_pictures_in_lists_and_as_image() -> None:
    assert names([[RED]]) == names([RED]) == names(image=[RED])


@pytest.mark.parametrize("broken", [None, "a.jpg", [], [RED, "a.jpg"], {"bytes": b""}])
def test_what_is_no_picture_is_named_by_its_row(broken) -> None:
    with pytest.raises(ValueError, match="clip-s: row 1 of the column 'images' is "):
        names([RED, broken])
    by_id = gathered([RED, broken], image_id=["x", "y"])
    assert by_id["id", "x"] == (RED,)
    with pytest.raises(ValueError, match="clip-s: row 1 of the column 'images' is "):
        by_id["id", "y"]


def test_missing_columns() -> None:
    with pytest.raises(ValueError, match="the column 'images' is missing"):
        names(length=2)
    with pytest.raises(ValueError, match="the column 'image_id' has 1 values for 2"):
        names([RED, BLUE], image_id=["x"])


def test_lazy_images_are_opened_once_and_only_where_they_are_looked_at() -> None:
    opened = []

    def open_one(color: str) -> Image.Image:
        opened.append(color)
        return Image.new("RGB", (4, 4), color)

    column = LazyImages(open_one, ["red", "blue", "green"], repeats=2)
    assert len(column) == 6
    pictures = gathered(column, image_id=["r", "r", "b", "b", "g", "g"])
    assert list(pictures) == [("id", "r"), ("id", "b"), ("id", "g")]
    assert not opened
    assert pictures["id", "b"] == pictures["id", "b"] == (BLUE,)
    assert column[3] is column[2]
    assert opened == ["blue"]
    assert column[-1] == column[4:5][0]
    assert [picture.getpixel((0, 0)) for picture in column[::2]] == [(255, 0, 0), (0, 0, 255), (0, 128, 0)]
    assert opened == ["blue", "green", "red"]
