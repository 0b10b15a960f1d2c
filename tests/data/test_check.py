"""`rlcap data check`: what is wrong with a data set is found, and a good one passes."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import write_shards
from PIL import Image

from rlcap.cli import main
from rlcap.data import load_captions
from rlcap.data.check import check
from rlcap.data.content import BadImage
from rlcap.data.look import look_at


def encoded(seed: int, format: str = "JPEG", side: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def write(folder: Path, pictures: dict[str, bytes], rows: list[dict[str, Any]] | None = None) -> Path:
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    default = [{"image": name, "captions": [f"one {name}", f"two {name}"]} for name in pictures]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (default if rows is None else rows)))
    return path


def found(source: Path, **options: Any) -> dict[str, list[str]]:
    report = check(load_captions(source, drop_empty=None), **options)
    return {finding.what: finding.examples for finding in report.findings}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_picture_cut_off_is_found_without_decoding_the_others(tmp_path: Path, format: str) -> None:
    whole = encoded(0, format)
    assert look_at(whole) == look_at({"bytes": whole, "path": "a"})
    with pytest.raises(BadImage):
        look_at(whole[: len(whole) * 2 // 3])
    look_at(whole + b"\0" * 20)  # padding harms nobody


def test_damage_in_the_middle_needs_decoding() -> None:
    damaged = bytearray(encoded(0, "PNG"))
    damaged[len(damaged) // 2] ^= 255
    look_at(bytes(damaged))
    with pytest.raises(BadImage, match="cannot be decoded"):
        look_at({"bytes": bytes(damaged), "path": "x.png"}, decode=True)


def test_everything_that_is_wrong(tmp_path: Path) -> None:
    pictures = {f"{n}.jpg": encoded(n) for n in range(6)}
    pictures |= {"text.jpg": b"no picture", "same.jpg": pictures["0.jpg"], "leak.jpg": pictures["1.jpg"]}
    long_head = encoded(7, side=128)
    middle = bytearray(long_head)
    middle[len(middle) // 2] ^= 1  # the same size and the same ends
    pictures |= {"a.jpg": long_head, "b.jpg": bytes(middle)}
    rows = [{"image": name, "captions": [f"one {name}", f"two {name}"]} for name in pictures]
    rows[2] |= {"captions": []}
    rows[3] |= {"captions": ["x", " "]}
    rows[4] |= {"captions": ["A dog.", "The cat!"]}
    rows[5] |= {"captions": ["the cat", "a  dog"], "split": "val"}
    rows[8] |= {"split": "val"}
    rows.append({"image": "gone.jpg", "captions": ["y", "z"]})
    findings = found(write(tmp_path, pictures, rows))
    assert findings["pictures under several ids, in one split"] == ["0 (train) = same (train)"]
    assert findings["pictures under several ids, in different splits"] == ["1 (train) = leak (val)"]
    assert findings["rows without references"] == ["2"]
    assert findings["rows with an empty caption"] == ["3"]
    assert findings["sets of references that rows of different splits share"] == ["4 (train) = 5 (val)"]
    assert [text.split(": ")[0] for text in findings["pictures or videos that cannot be read"]] == ["text", "gone"]
    assert len(findings) == 6


def test_counts_and_overlaps(tmp_path: Path) -> None:
    rows = [
        {"image": "0.jpg", "captions": ["a dog", "a dog runs", "one"]},
        {"image": "1.jpg", "captions": ["four words are here"]},
        {"image": "2.jpg", "captions": ["A dog!", "new"], "split": "test"},
    ]
    source = write(tmp_path, {f"{n}.jpg": encoded(n) for n in range(3)}, rows)
    report = check(load_captions(source))
    assert report.ok
    train = report.splits["train"]
    assert (train["rows"], train["captions"], train["mean captions"]) == (2, 4, 2.0)
    assert (train["fewest words"], train["median words"], train["most words"]) == (1, 2.5, 4)
    expected = {"of": "test", "in": "train", "captions": 1, "share": 0.5, "examples": ["a dog"]}
    assert report.overlaps == [expected]


def test_shards_and_frames(tmp_path: Path) -> None:
    write_shards(tmp_path, [3])
    assert found(tmp_path / "0.tar") == {}
    clips = [{"id": n, "frames": [f"{n}.png", "x.png"], "captions": ["a", f"b {n}"]} for n in range(2)]
    source = write(tmp_path, {f"{name}.png": encoded(n, "PNG") for n, name in enumerate("01x")}, clips)
    assert found(source) == {}  # a frame may be in two clips
    (tmp_path / "x.png").write_bytes(b"")
    assert found(source) == {
        "pictures or videos that cannot be read": [f"{n}: {tmp_path}/x.png: is empty" for n in (0, 1)]
    }


def test_workers_find_the_same(tmp_path: Path) -> None:
    pictures = {"0.jpg": encoded(0), "1.jpg": encoded(0), "2.jpg": b"x"}
    source = write(tmp_path, pictures)
    assert found(source, workers=1) == found(source) != {}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, {f"{n}.jpg": encoded(n) for n in range(3)})
    grid = tmp_path / "sheets" / "grid.png"
    monkeypatch.setenv("COLUMNS", "80")
    main(["data", "check", str(source), "--quiet", "--grid", str(grid), "--grid-size", "2", "2"])
    said = capsys.readouterr().out
    assert all(f"\n {name} " in said for name in ("fewest captions", "median words", "95 % below"))
    assert "nothing is wrong" in said
    with Image.open(grid) as sheet:
        assert sheet.size == (440, 572)
        first = np.asarray(sheet.convert("RGB"), dtype=float)[70:150, 70:150]
        assert first.std() > 20  # a picture of noise
    (tmp_path / "1.jpg").write_bytes(b"<b>no</b> picture")
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(source), "--quiet", "--output", str(tmp_path / "o.json"), "--grid", str(grid)])
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "WRONG: 1 pictures or videos that cannot be read" in out
    assert "1.jpg: is not a picture in a format that Pillow knows" in out
    written = json.loads((tmp_path / "o.json").read_text())
    assert written["ok"] is False
    assert written["rows"] == 3
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(tmp_path / "none.json")])
    assert end.value.code == 2
