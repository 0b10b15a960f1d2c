import pickle

import pytest
import torch
from PIL import Image
from tiny import SIDE, pictures, tiny_encoder_decoder


@pytest.fixture(scope="module")
def preprocessor():
    return tiny_encoder_decoder().preprocessor


def test_pictures_of_any_mode_and_size_become_one_tensor(preprocessor) -> None:
    modes = [Image.new(mode, (30, 20)) for mode in ("L", "P", "RGBA", "CMYK", "1", "LA")]
    visual = preprocessor(modes)
    assert set(visual) == {"pixel_values"}
    assert visual["pixel_values"].shape == (6, 3, SIDE, SIDE)


def test_clips_of_equal_length_need_no_mask(preprocessor) -> None:
    frames = pictures(6)
    visual = preprocessor([frames[:3], frames[3:]])
    assert set(visual) == {"pixel_values"}
    assert visual["pixel_values"].equal(preprocessor(frames)["pixel_values"].view(2, 3, 3, SIDE, SIDE))


def test_ragged_clips_are_padded_with_a_mask(preprocessor) -> None:
    frames = pictures(4)
    visual = preprocessor([frames[:1], frames[1:]])
    assert visual["frame_mask"].tolist() == [[True, False, False], [True, True, True]]
    flat = preprocessor(frames)["pixel_values"]
    assert visual["pixel_values"][visual["frame_mask"]].equal(flat)
    assert visual["pixel_values"][0, 1:].eq(0).all()


@pytest.mark.parametrize(
    ("visuals", "message"),
    [
        ([], "batch is empty"),
        ([Image.new("RGB", (8, 8)), [Image.new("RGB", (8, 8))]], "mixed in one batch"),
        ([[Image.new("RGB", (8, 8))], []], "clip 1 has no frames"),
        (["a.jpg"], "visual 0 is a str"),
        ([["a.jpg"]], "got a str"),
        ([torch.zeros(3, 8, 8)], "visual 0 is a Tensor"),
    ],
)
def test_what_is_not_a_picture_or_clip_is_named(preprocessor, visuals, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocessor(visuals)


def test_pickled_preprocessor_gives_the_same_pixels(preprocessor) -> None:
    copy = pickle.loads(pickle.dumps(preprocessor))
    assert copy(pictures(2))["pixel_values"].equal(preprocessor(pictures(2))["pixel_values"])
