"""Data sets of `datasets`: saved, as parquet, split or not, with the pictures in them or beside them."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value
from drawn import png

from rlcap.data import load_captions
from rlcap.data.collate import open_visual
from rlcap.data.columns import Columns

TEXT = Value("string")


def held(number: int, start: int = 0, path: str | None = None) -> Dataset:
    """Rows whose picture n has red n, with two captions and an id."""
    rows = [
        {
            "image": {"bytes": png(n), "path": None if path is None else path.format(n)},
            "captions": [f"a {n}", f"b {n}"],
            "cocoid": n,
        }
        for n in range(start, start + number)
    ]
    return Dataset.from_list(
        rows, features=Features({"image": datasets.Image(), "captions": List(TEXT), "cocoid": Value("int64")})
    )


def red(row: dict[str, Any]) -> int:
    return open_visual(row).getpixel((0, 0))[0]  # type: ignore[union-attr,index]


def test_a_saved_data_set(tmp_path: Path) -> None:
    held(6).select([4, 2, 5]).save_to_disk(tmp_path / "saved")  # with its own order of rows
    dataset = load_captions(tmp_path / "saved")
    assert dataset.column_names == ["image_id", "image", "references", "split"]
    assert dataset["image_id"][:] == ["4", "2", "5"]
    assert dataset["references"][0] == ["a 4", "b 4"]
    assert dataset["split"][:] == ["train"] * 3
    assert list(map(red, dataset)) == [4, 2, 5]
    assert load_captions(tmp_path / "saved", split="test")["split"][:] == ["test"] * 3


def test_splits_of_a_data_set(tmp_path: Path) -> None:
    DatasetDict(train=held(3), validation=held(2, start=3)).save_to_disk(tmp_path / "saved")
    everything = load_captions(tmp_path / "saved")
    assert everything["split"][:] == ["train"] * 3 + ["val"] * 2
    assert list(map(red, everything)) == list(range(5))
    for name in ("val", "validation"):
        part = load_captions(tmp_path / "saved", split=name)
        assert part["image_id"][:] == ["3", "4"]
        assert list(map(red, part)) == [3, 4]
    with pytest.raises(ValueError, match=r'no rows in the split "test"; there are "train" \(3\), "val" \(2\)'):
        load_captions(tmp_path / "saved", split="test")


def test_ids_do_not_depend_on_the_splits_that_are_read(tmp_path: Path) -> None:
    whole = DatasetDict(train=held(2), test=held(2, start=2)).remove_columns("cocoid")
    whole.save_to_disk(tmp_path / "saved")
    assert load_captions(tmp_path / "saved")["image_id"][:] == ["train-0", "train-1", "test-0", "test-1"]
    assert load_captions(tmp_path / "saved", split="test")["image_id"][:] == ["test-0", "test-1"]
    held(2, path="x/p{}.png").remove_columns("cocoid").save_to_disk(tmp_path / "named")
    assert load_captions(tmp_path / "named")["image_id"][:] == ["p0", "p1"]


def test_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set/data").mkdir(parents=True)
    held(3).to_parquet(tmp_path / "set/data/train-00000-of-00001.parquet")
    held(2, start=3).to_parquet(tmp_path / "set/data/test-00000-of-00001.parquet")
    dataset = load_captions(tmp_path / "set", split="test")
    assert dataset["image_id"][:] == ["3", "4"]
    assert list(map(red, dataset)) == [3, 4]
    one = load_captions(tmp_path / "set/data/test-00000-of-00001.parquet")
    assert one["split"][:] == ["train"] * 2  # one file says nothing of splits


def test_columns_and_a_column_of_splits(tmp_path: Path) -> None:
    rows = [
        {
            "photo": png(n),
            "caption_0": f"a {n}",
            "meta": {"alt": f"b {n}"},
            "fold": "validation" if n else "train",
            "key": n,
        }
        for n in range(3)
    ]
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"no column is known to be a picture .*there are photo, caption_0, meta"):
        load_captions(tmp_path / "saved")
    columns = Columns(image="photo", references=("caption_0", "meta.alt"), id="key", split="fold")
    dataset = load_captions(tmp_path / "saved", split="val", columns=columns)
    assert dataset["image_id"][:] == ["1", "2"]
    assert dataset["references"][:] == [["a 1", "b 1"], ["a 2", "b 2"]]
    assert list(map(red, dataset)) == [1, 2]
    for columns, message in (
        (Columns(image="picture"), r'there is no column "picture" \(image_column\)'),
        (Columns(image="photo"), r"has no captions: name them \(--references-column\)"),
        (Columns(image="key", references=("caption_0",)), 'the column "key" holds Value.* that is no image'),
        (Columns(image="photo", references=("key",)), 'row 0: "key" must be a text or a list of texts, not 0'),
    ):
        with pytest.raises(ValueError, match=message):
            load_captions(tmp_path / "saved", columns=columns)
    with pytest.raises(ValueError, match="image_column and video_column are both given"):
        Columns(image="a", video="b")


def test_a_row_a_caption(tmp_path: Path) -> None:
    twice = datasets.concatenate_datasets([held(2), held(2)])
    twice.save_to_disk(tmp_path / "saved")
    dataset = load_captions(tmp_path / "saved")
    assert dataset["references"][:] == [["a 0", "b 0"] * 2, ["a 1", "b 1"] * 2]
    other = held(1).map(lambda row: {"image": {"bytes": png(0, side=40), "path": None}}, features=held(1).features)
    datasets.concatenate_datasets([held(1), other]).save_to_disk(tmp_path / "other")
    with pytest.raises(ValueError, match=r'image_id "0" is .* here and .* at .*row 0; give every picture its own'):
        load_captions(tmp_path / "other")


def test_paths_and_frames(tmp_path: Path) -> None:
    for n in range(2):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    Dataset.from_list([{"image": f"{n}.png", "caption": "x"} for n in range(2)]).save_to_disk(tmp_path / "saved")
    dataset = load_captions(tmp_path / "saved", images=tmp_path)
    assert dataset[1] == {"image_id": "1", "image": str(tmp_path / "1.png"), "references": ["x"], "split": "train"}
    frames = [{"frames": [{"bytes": png(n), "path": None} for n in (5, 6)], "caption": "x", "id": "clip"}]
    features = Features({"frames": List(datasets.Image()), "caption": TEXT, "id": TEXT})
    Dataset.from_list(frames, features=features).save_to_disk(tmp_path / "clips")
    (row,) = load_captions(tmp_path / "clips")
    assert [frame.getpixel((0, 0))[0] for frame in open_visual(row)] == [5, 6]  # type: ignore[union-attr]


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is a folder: name the captions file in it"):
        load_captions(tmp_path / "folder")
    with pytest.raises(ValueError, match="was not saved by `datasets` and holds no parquet files"):
        load_captions(tmp_path / "folder", format="datasets")
    (tmp_path / "folder/a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot be read by `datasets`"):
        load_captions(tmp_path / "folder")


def test_the_hub_is_asked_for_a_name_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="nobody/nothing:some: there is no such file or folder, and no data set"):
        load_captions("nobody/nothing:some")
