"""Stores that disappear: waited for, gone on with where they come back, named where they do not."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from drawn import write_shards, write_video
from PIL import Image
from tiny_tower import TinyPreprocessor
from torch.utils.data import DataLoader

from rewards.pictures import LazyImages
from rlcap.data import load_captions, stores
from rlcap.data.collate import VisualCollator, open_visual
from rlcap.data.images import BadImage, open_image
from rlcap.data.scenes import make_scenes
from rlcap.data.stores import StoreGone
from rlcap.data.stream import CaptionStream


class Clock:
    """A time that passes where the code sleeps, and what happens at some moments of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.at: dict[float, Callable[[], Any]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_known", stores._Known())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stores.time, "sleep", clock.sleep)
    monkeypatch.setattr(stores.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "pictures"
    folder.mkdir(parents=True)
    (folder.parent / "captions.json").write_text("{}")  # what holds nothing counts as gone itself
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    return folder


def red(image: Image.Image) -> int:
    return image.getpixel((0, 0))[0]


@pytest.mark.parametrize("moved", ["pictures", "store"])
def test_a_folder_that_comes_back(
    moved: str, folder: Path, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    open_image(folder / "0.png")
    gone = folder if moved == "pictures" else folder.parent
    gone.rename(tmp_path / "elsewhere")
    clock.at[5.0] = lambda: (tmp_path / "elsewhere").rename(gone)
    assert red(open_image(folder / "1.png")) == 1
    assert red(open_image(folder / "2.png")) == 2
    assert clock.pauses == [0.5, 1, 2, 4]
    said = capsys.readouterr().out
    assert said.count("is gone, from which files were read before") == 1
    assert f"rlcap: {gone} is gone" in said
    assert f"rlcap: {gone} is back after 8 s" in said


def test_a_folder_that_does_not(folder: Path, clock: Clock) -> None:
    open_image(folder / "0.png")
    shutil.rmtree(folder)
    stores.wait_at_most(100)
    with pytest.raises(StoreGone, match=rf"^{folder} is gone, .* not back within 100 s \(picture_timeout\): .*1\.png"):
        open_image(folder / "1.png")
    assert clock.pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 8.5]
    stores.wait_at_most(0)
    with pytest.raises(StoreGone, match="not back within 0 s"):
        open_image(folder / "1.png")


def test_a_mount_that_leaves_its_folder_empty_or_stale(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.wait_at_most(1)
    open_image(folder / "0.png")
    (folder / "1.png").unlink()
    with pytest.raises(BadImage, match="there is no such file"):  # the others are there
        open_image(folder / "1.png")
    scandir = os.scandir

    def stale(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", stale)
        with pytest.raises(StoreGone, match=str(folder)):
            open_image(folder / "1.png")
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(StoreGone, match=str(folder)):
        open_image(folder / "1.png")


def test_single_pictures_are_not_waited_for(folder: Path, clock: Clock) -> None:
    with pytest.raises(BadImage, match="no such file"):  # a folder that was never there
        open_image(folder.parent / "nowhere" / "0.png")
    open_image(folder / "0.png")
    (folder / "1.png").write_text("no picture")
    for name, reason in {"1.png": "is not a picture", "9.png": "no such file", "clip/1.png": "no such file"}.items():
        with pytest.raises(BadImage, match=reason):
            open_image(folder / name)
    with pytest.raises(BadImage, match="empty"):
        open_image(b"")
    assert clock.pauses == []


def test_pictures_that_rewards_open(folder: Path, tmp_path: Path, clock: Clock) -> None:
    rows = [{"image_id": name, "image": str(folder / f"{name}.png")} for name in "012"]
    images = LazyImages(open_visual, rows, repeats=2)
    assert red(images[0]) == 0
    folder.rename(tmp_path / "elsewhere")
    clock.at[2.0] = lambda: (tmp_path / "elsewhere").rename(folder)
    assert [red(image) for image in images] == [0, 0, 1, 1, 2, 2]
    assert clock.pauses == [0.5, 1, 2]


def test_clips_and_videos(tmp_path: Path, clock: Clock) -> None:
    pytest.importorskip("av", reason="videos need PyAV: pip install 'rlcap[video]'")
    root = tmp_path / "clips"
    for clip in "ab":
        (root / clip).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / clip / f"{number}.png")
    write_video(root / "c.mp4")
    rows: list[dict[str, Any]] = [
        {"image_id": clip, "frames": [str(root / clip / f"{number}.png") for number in range(2)]} for clip in "ab"
    ]
    rows.append({"image_id": "c", "video": str(root / "c.mp4"), "video_frames": "uniform:2"})
    open_visual(rows[0])
    for row in rows[1:]:  # neither the second clip's own folder nor the video was read before: what is above them was
        root.rename(tmp_path / "elsewhere")
        clock.pauses.clear()
        clock.at[clock.now + 1.0] = lambda: (tmp_path / "elsewhere").rename(root)
        assert len(open_visual(row)) == 2
        assert clock.pauses == [0.5, 1]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    source = tmp_path / "shards"
    source.mkdir()
    write_shards(source, [4, 4])
    return source


def test_rows_of_shards_that_are_read_in_place(shards: Path, tmp_path: Path, clock: Clock) -> None:
    dataset = load_captions(str(shards))
    shards.rename(tmp_path / "elsewhere")
    clock.at[1.0] = lambda: (tmp_path / "elsewhere").rename(shards)
    assert open_visual(dataset[5]).size == (8, 8)
    assert clock.pauses == [0.5, 1]


def test_a_stream_goes_on_where_it_was(shards: Path, tmp_path: Path, clock: Clock) -> None:
    stream = CaptionStream(str(shards), buffer=2)
    whole = [row["image_id"] for shard in stream.shards for _, row in stream.rows(shard) if row]
    assert len(whole) == 8
    seen = []
    for number, shard in enumerate(stream.shards):
        if number == 1:
            shards.rename(tmp_path / "elsewhere")
            clock.at[1.0] = lambda: (tmp_path / "elsewhere").rename(shards)
        seen += [row["image_id"] for _, row in stream.rows(shard) if row]
    assert seen == whole
    assert clock.pauses == [0.5, 1]
    shutil.rmtree(shards)
    stores.wait_at_most(3)
    with pytest.raises(StoreGone, match=str(shards)):
        next(stream.rows(stream.shards[0]))


def cut_short(stream: Iterator[Any], after: int) -> Iterator[Any]:
    for count, item in enumerate(stream):
        if count == after:
            raise OSError(errno.EIO, "Input/output error")
        yield item


def test_a_shard_that_breaks_off_in_the_middle_is_gone_on_with(shards: Path, tmp_path: Path, clock: Clock) -> None:
    starts: list[int] = []

    def items(start: int) -> Iterator[tuple[int, str]]:
        starts.append(start)
        numbered = iter([(number, f"row {number}") for number in range(start, 4)])
        if len(starts) > 1:
            return numbered
        shards.rename(tmp_path / "elsewhere")
        clock.at[1.0] = lambda: (tmp_path / "elsewhere").rename(shards)
        return cut_short(numbered, 2)

    stores.remember(str(shards / "0.tar"))
    assert [number for number, _ in stores.patient_items(str(shards / "0.tar"), items, 0)] == [0, 1, 2, 3]
    assert starts == [0, 2]


@pytest.fixture
def scenes(tmp_path: Path) -> Dataset:
    return load_captions(make_scenes(tmp_path / "scenes", 6, 0, 0, 0))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_workers_know_what_their_parent_knows(context: str, scenes: Dataset, tmp_path: Path) -> None:
    """The folder is gone before a worker has opened anything."""
    pictures = Path(scenes[0]["image"]).parent
    loader: DataLoader[Any] = DataLoader(
        list(scenes),  # type: ignore[arg-type]
        batch_size=3,
        num_workers=1,
        collate_fn=VisualCollator(TinyPreprocessor()),
        multiprocessing_context=context,
    )
    pictures.rename(tmp_path / "elsewhere")
    stores.wait_at_most(0.01)
    with pytest.raises(StoreGone, match=str(pictures)):
        list(loader)
    stores.wait_at_most(60)
    back = threading.Timer(0.3, lambda: (tmp_path / "elsewhere").rename(pictures))
    back.start()
    assert [len(batch["rows"]) for batch in loader] == [3, 3]
    back.join()
