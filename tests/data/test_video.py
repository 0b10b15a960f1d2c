"""Frames of videos: which ones are chosen, that they are those on the screen, and what is wrong with a file."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from drawn import frame_number, write_tar, write_video

from rlcap.data import load_captions, video
from rlcap.data.collate import VisualCollator, open_visual
from rlcap.data.content import BadImage
from rlcap.data.video import FrameChoice, check_video, open_video

av = pytest.importorskip("av", reason="needs PyAV, the extra `video`")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds, ten frames a second, a key frame every 1.2 seconds."""
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4")


@pytest.mark.parametrize(
    ("choice", "duration", "moments"),
    [
        ("uniform:4", 8.0, [1, 3, 5, 7]),
        ("uniform:1", 8.0, [4]),
        ("fps:0.5:10", 8.0, [0, 2, 4, 6]),
        ("fps:2:32", 1.2, [0, 0.5, 1.0]),
        ("fps:2:4", 8.0, [1, 3, 5, 7]),  # more than fit: spread over the whole
        ("fps:1:5", 0.2, [0]),
        ("times:3,0.25", 8.0, [3, 0.25]),
    ],
)
def test_moments(choice: str, duration: float, moments: list[float]) -> None:
    parsed = FrameChoice.parse(choice)
    assert parsed.moments(duration) == moments
    assert len(moments) <= parsed.most
    assert FrameChoice.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text", ["", "8", "uniform", "uniform:0", "uniform:2.5", "fps:2", "fps:0:3", "times:", "times:-1"]
)
def test_other_choices_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"frames of a video are chosen by .*uniform:8"):
        FrameChoice.parse(text)


@pytest.mark.parametrize("seek_past", [0.0, 0.9, 100.0])
def test_the_frame_on_the_screen(clip: Path, seek_past: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "SEEK_PAST", seek_past)
    wanted = {"uniform:5": [5, 15, 25, 35, 45], "fps:10:50": list(range(50)), "fps:4:99": [0, 2, 5, 7, 10, 12, 15, 17]}
    wanted["linspace:10"] = np.linspace(0, 49, 10).astype(int).tolist()  # as EMScore takes them
    wanted["linspace:1"] = [0]
    wanted["times:4.95,0,1.2,1.19,3.3,3.3"] = [49, 0, 12, 11, 33, 33]
    for choice, numbers in wanted.items():
        found = [frame_number(frame) for frame in open_video(clip, FrameChoice.parse(choice))]
        assert found[: len(numbers)] == numbers


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_containers_without_a_length_or_a_start_at_zero(tmp_path: Path, container: str) -> None:
    path = write_video(tmp_path / "clip.bin", container=container)
    found = [frame_number(frame) for frame in open_video(path, FrameChoice.parse("uniform:5"))]
    assert found == [5, 15, 25, 35, 45]


def test_real_clips_equal_decoding_all_of_them(shared: Path) -> None:
    for path in sorted((shared / "data/clips").glob("*.mp4")):
        with av.open(str(path)) as container:
            frames = [(float(frame.time), frame) for frame in container.decode(video=0)]
            choice = FrameChoice.parse("uniform:3")
            duration = float(container.streams.video[0].duration * container.streams.video[0].time_base)
            for moment, found in zip(choice.moments(duration), open_video(path, choice), strict=True):
                expected = [frame for time, frame in frames if time <= moment + 1e-6][-1].to_image()
                assert np.array_equal(np.asarray(found), np.asarray(expected))
        check_video(path, decode=True)


def test_what_is_wrong_is_named(clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    two = FrameChoice.parse("uniform:2")
    for path, message in (
        (tmp_path / "none.mp4", "there is no such file"),
        (tmp_path / "text.mp4", "cannot be decoded as a video"),
        (tmp_path / "cut.mp4", "cut off|cannot be decoded"),
    ):
        with pytest.raises(BadImage, match=message) as error:
            open_video(path, two)
        assert error.value.path == str(path)
    with pytest.raises(BadImage, match=r"cut off|cannot be decoded"):
        check_video(tmp_path / "cut.mp4", decode=True)
    with pytest.raises(BadImage, match="5 seconds long; there is no frame at 9 seconds"):
        open_video(clip, FrameChoice.parse("times:9"))


def test_rows_of_videos(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    os.link(clip, tmp_path / "videos" / "a.mp4")
    lines = [
        {"video": "a.mp4", "caption": "grey"},
        {"video": "a.mp4", "id": "late", "caption": "white", "timestamps": [4, 4.5]},
        {"video": "gone.mp4", "caption": "none"},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = load_captions(tmp_path / "c.jsonl", video_frames="uniform:5")
    assert dataset.column_names == ["image_id", "video", "video_frames", "references", "split"]
    assert dataset["image_id"][:] == ["a", "late", "gone"]
    assert [list(map(frame_number, open_visual(row))) for row in dataset.select([0, 1])] == [
        [5, 15, 25, 35, 45],
        [40, 45],
    ]
    batch = VisualCollator(lambda visuals: {"frames": [len(clip) for clip in visuals]})(list(dataset))  # type: ignore[arg-type]
    assert batch["visual"] == {"frames": [5, 2]}
    assert batch["bad"] == [(str(tmp_path / "videos/gone.mp4"), "there is no such file")]


def test_a_video_in_a_shard(clip: Path, tmp_path: Path) -> None:
    source = write_tar(tmp_path / "a.tar", [("v.mp4", clip.read_bytes()), ("v.txt", "grey")])
    (row,) = load_captions(source, video_frames="times:2")
    assert (row["image_id"], row["references"]) == ("v", ["grey"])
    assert frame_number(open_visual(row)[0]) == 20
