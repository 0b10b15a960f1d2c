"""VisualCollator in one process and in DataLoader workers, with pictures, clips, bad files and stored features."""

import pickle
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny_tower import TinyPreprocessor, TinyTower
from torch.utils.data import DataLoader

from rlcap.data import load_captions
from rlcap.data.collate import VisualCollator
from rlcap.data.images import BadImageCounter
from rlcap.data.scenes import make_scenes
from rlcap.data.write_features import write_features


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_captions(make_scenes(tmp_path_factory.mktemp("scenes") / "s", 20, 0, 0, 0))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_captions(make_scenes(tmp_path_factory.mktemp("clips") / "s", 10, 0, 0, 0, clips=True))


def spoiled(dataset: Dataset, folder: Path, rows: tuple[int, ...]) -> list[dict]:
    """The rows of `dataset`, the picture (a clip's second frame) of some being a text file."""
    spoiled = list(dataset)
    for number in rows:
        path = folder / f"bad{number}.png"
        path.write_text("not a picture")
        if "frames" in spoiled[number]:
            spoiled[number]["frames"][1] = str(path)
        else:
            spoiled[number]["image"] = str(path)
    return spoiled


def test_pictures(scenes: Dataset) -> None:
    batch = VisualCollator(TinyPreprocessor(), keep_images=True)(list(scenes)[:3])
    assert batch["visual"]["pixel_values"].shape == (3, 3, 32, 32)
    assert batch["rows"] == list(scenes)[:3]
    assert batch["bad"] == []
    assert [image.size for image in batch["images"]] == [(64, 64)] * 3
    assert "images" not in VisualCollator(TinyPreprocessor())(list(scenes)[:3])


def test_clips(clips: Dataset) -> None:
    rows = list(clips)[:3]
    rows[1]["frames"] = rows[1]["frames"][:2]
    batch = VisualCollator(TinyPreprocessor(), keep_images=True)(rows)
    assert batch["visual"]["pixel_values"].shape == (3, 4, 3, 32, 32)
    assert batch["visual"]["frame_mask"].sum(dim=1).tolist() == [4, 2, 4]
    assert [len(frames) for frames in batch["images"]] == [4, 2, 4]


@pytest.mark.parametrize("kind", ["scenes", "clips"])
def test_bad_pictures_in_workers(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue(kind)
    rows = spoiled(dataset, tmp_path, (1, 4, 5))
    counter = BadImageCounter(len(rows), 0.3)
    loader = DataLoader(rows, batch_size=2, num_workers=2, collate_fn=VisualCollator(TinyPreprocessor()))
    kept: list[str] = []
    for number, batch in enumerate(loader):
        counter.extend(batch["bad"], warn=False)
        kept += [row["image_id"] for row in batch["rows"]]
        if number == 2:
            assert batch == {"visual": None, "rows": [], "bad": batch["bad"]}
            assert len(batch["bad"]) == 2
        else:
            assert len(batch["visual"]["pixel_values"]) == len(batch["rows"])
    assert kept == [row["image_id"] for number, row in enumerate(rows) if number not in (1, 4, 5)]
    assert list(counter.bad) == [str(tmp_path / f"bad{number}.png") for number in (1, 4, 5)]
    strict = BadImageCounter(len(rows), 0.05)
    with pytest.raises(ValueError, match=r"(?s)2 of .*bad1\.png: is not a picture.*bad4\.png"):
        strict.extend(list(counter.bad.items())[:2], warn=False)


def test_stored_features_open_no_picture(clips: Dataset, tmp_path: Path) -> None:
    rows = list(clips)[:4]
    rows[2]["frames"] = rows[2]["frames"][:3]
    store = write_features(TinyTower(), Dataset.from_list(rows), tmp_path / "features")
    gone = [{**row, "frames": ["gone.png"] * len(row["frames"])} for row in rows]
    collator = pickle.loads(pickle.dumps(VisualCollator(None, store)))
    for workers in (0, 2):
        (batch,) = DataLoader(gone, batch_size=4, num_workers=workers, collate_fn=collator)
        assert batch["visual"]["features"].shape == (4, 4, 16, 5)
        assert batch["visual"]["features"].dtype == torch.float16
        assert batch["visual"]["frame_mask"].sum(dim=1).tolist() == [4, 4, 3, 4]
        assert not batch["visual"]["features"][2, 3].any()
        tower = TinyTower().eval()
        pixels = VisualCollator(tower.preprocessor)(rows)["visual"]
        assert torch.equal(batch["visual"]["features"][2, :3], tower.features(pixels)[2, :3].half())
    assert VisualCollator(None, store)(gone[:2])["visual"].keys() == {"features"}
    both = VisualCollator(None, store, keep_images=True)(rows[:2])
    assert isinstance(both["images"][0][0], Image.Image)
    with pytest.raises(ValueError, match='"unknown" has no features in'):
        collator([{**gone[0], "image_id": "unknown"}])


def test_what_was_bad_when_features_were_written_is_bad_now(
    scenes: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = spoiled(scenes, tmp_path, (1,))[:3]
    store = write_features(TinyTower(), Dataset.from_list(rows), tmp_path / "features")
    assert f"rlcap: skipped a picture: {tmp_path / 'bad1.png'}" in capsys.readouterr().err
    batch = VisualCollator(None, store)(rows)
    assert [row["image_id"] for row in batch["rows"]] == [rows[0]["image_id"], rows[2]["image_id"]]
    assert batch["bad"] == [(str(tmp_path / "bad1.png"), "is not a picture in a format that Pillow knows")]
    assert batch["visual"]["features"].shape == (2, 1, 16, 5)


def test_neither_preprocessor_nor_features() -> None:
    with pytest.raises(ValueError, match="needs the captioner's preprocessor or stored features"):
        VisualCollator(None)
