"""Blind controls: no picture stays with its row, and none is seen at all."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from PIL import Image

from rlcap.data.blind import GREY, Blanked, ControlledRows, other_pictures

IDS = ["a", "b", "a", "c", "d", "d", "e"]


def test_every_row_gets_the_picture_of_another_id() -> None:
    for seed in range(20):
        others = other_pictures(IDS, seed)
        assert all(IDS[other] != own for other, own in zip(others, IDS, strict=True))
        given = {own: IDS[other] for other, own in zip(others, IDS, strict=True)}
        assert Counter(given.values()) == Counter(set(IDS))  # each picture once
    assert other_pictures(IDS, 1) == other_pictures(IDS, 1) != other_pictures(IDS, 2)
    with pytest.raises(ValueError, match="all rows are of one picture"):
        other_pictures(["a", "a"], 0)


def test_rows_keep_their_texts(tmp_path: Path) -> None:
    rows = [{"image_id": own, "image": f"{own}.png", "captions": [str(n)]} for n, own in enumerate(IDS)]
    shuffled = ControlledRows(Dataset.from_list(rows), "shuffled", seed=3)
    for position in range(len(shuffled)):
        row = shuffled[position]
        assert row["captions"] == [str(position)]
        assert row["position"] == position
        assert row["image"] == f"{row['image_id']}.png" != rows[position]["image"]
    with pytest.raises(ValueError, match="the control is 'none'; it can be one of true, shuffled, blank"):
        ControlledRows(Dataset.from_list(rows), "none")


def test_blank_pictures_have_the_size_of_the_true_ones() -> None:
    seen = []

    def preprocessor(visuals: list) -> dict[str, torch.Tensor]:
        seen.extend(visuals)
        return {}

    picture = Image.new("RGB", (30, 20), "red")
    Blanked(preprocessor)([picture, [picture, picture.resize((8, 8))]])
    blank, clip = seen
    assert blank.size == (30, 20)
    assert blank.getcolors() == [(600, GREY)]
    assert [frame.size for frame in clip] == [(30, 20), (8, 8)]
