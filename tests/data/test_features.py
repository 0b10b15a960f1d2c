"""FeatureStore: what its files must hold, and what it says when they do not."""

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlcap.data.features import BAD, FeatureStore, FeatureWriter, compare_headers, open_writers

HEADER = {
    "format": 1,
    "vision_model": "ResNetModel",
    "weights": "sha256:aa",
    "preprocessor": {"shape": [3, 8, 8], "probe": [0.0, 1.0]},
    "frames": 2,
}


def write(directory: Path, ids: list[str], rank: int = 0, world: int = 1, start: int = 0) -> None:
    """Give every id a grid [2, 3, 4] filled with its place in `ids`."""
    for writer in open_writers(directory, HEADER, ids, rank, world):
        with writer:
            for row, image_id in enumerate(writer.ids):
                writer.write([row], np.full((1, 2, 3, 4), ids.index(image_id) + start), [2])


def test_round_trip(tmp_path: Path) -> None:
    (writer,) = open_writers(tmp_path, HEADER, ["a", "b", "c"], 0, 1)
    grids = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    with writer:
        writer.write([0, 2], grids, [2, 1])
        writer.mark_bad(1, "b.jpg", "broken")
        assert len(FeatureStore(tmp_path)) == 0  # nothing is marked before its data is on the disk
    store = FeatureStore(tmp_path)
    assert len(store) == 2
    assert "a" in store
    assert "b" not in store
    assert store["a"].dtype == np.float16
    assert np.array_equal(store["a"], grids[0].astype(np.float16))
    assert np.array_equal(store["c"], grids[1, :1].astype(np.float16))
    assert store.bad == {"b": ("b.jpg", "broken")}
    assert store.missing(["a", "b", "x"]) == ["x"]
    store["a"][:] = 0  # a copy
    assert np.array_equal(pickle.loads(pickle.dumps(store))["a"], grids[0].astype(np.float16))
    assert len(pickle.dumps(store)) < 500


def test_shards_of_ranks_are_merged_and_missing_ids_named(tmp_path: Path) -> None:
    ids = [f"p{n}" for n in range(51)]
    write(tmp_path, ids, rank=0, world=2)
    store = FeatureStore(tmp_path)
    with pytest.raises(ValueError, match=r"lacks the features of p1, p3, .* and 5 more: run `rlcap features`"):
        store.require(ids)
    with pytest.raises(ValueError, match='"p1" has no features in'):
        store["p1"]
    write(tmp_path, ids, rank=1, world=2)
    store = FeatureStore(tmp_path)
    store.require(ids)
    assert [float(store[image_id].max()) for image_id in ids] == list(range(51))


def test_more_pictures_or_other_ranks_go_on_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b", "c"], rank=0, world=2)  # a, c
    write(tmp_path, ["a", "b", "c", "d"], start=100)  # in one process, and d is new
    store = FeatureStore(tmp_path)
    assert {image_id: float(store[image_id].max()) for image_id in "abcd"} == {"a": 0, "b": 101, "c": 2, "d": 103}
    shards = sorted(path.name for path in tmp_path.glob("*.npy"))
    assert shards == ["rank-00000-of-00001-000.npy", "rank-00000-of-00002-000.npy"]
    write(tmp_path, ["a", "b", "c", "d", "e"])
    assert json.loads((tmp_path / "rank-00000-of-00001-001.ids.json").read_text()) == ["e"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_model": "ViTModel"}, "vision_model: stored ResNetModel, now ViTModel"),
        ({"weights": "sha256:bb"}, "weights: stored sha256:aa, now sha256:bb"),
        ({"frames": 4}, "frames: stored 2, now 4"),
        ({"preprocessor": {"shape": [3, 16, 16], "probe": [0, 1]}}, r"pictures became \[3, 8, 8\], now \[3, 16, 16\]"),
        ({"preprocessor": {"shape": [3, 8, 8], "probe": [0.1, 1]}}, "resizing, cropping or normalisation differ"),
    ],
)
def test_features_of_something_else_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    write(tmp_path, ["a"])
    with pytest.raises(ValueError, match=message) as error:
        open_writers(tmp_path, {**HEADER, **change}, ["a"], 0, 1)
    assert str(tmp_path) in str(error.value)
    with pytest.raises(ValueError, match=message):
        FeatureStore(tmp_path).check({**HEADER, **change})
    FeatureStore(tmp_path).check(HEADER)


def test_rounding_of_library_versions_is_no_difference() -> None:
    compare_headers(HEADER, {**HEADER, "preprocessor": {"shape": [3, 8, 8], "probe": [0.004, 0.996]}}, Path())


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    (writer,) = open_writers(tmp_path, HEADER, ["a", "b", "c"], 0, 1)
    with writer:
        writer.write([0], np.ones((1, 2, 3, 4)), [2])
        with pytest.raises(ValueError, match='features of "b" hold NaN or values beyond the range of fp16'):
            writer.write([1], np.full((1, 2, 3, 4), 70000.0), [2])
        with pytest.raises(ValueError, match=r'features of "b" are \(2, 5, 4\), those of the pictures before it'):
            writer.write([1], np.ones((1, 2, 5, 4)), [2])
        with pytest.raises(ValueError, match=r'features of "b" are \(3, 3, 4\)'):
            writer.write([1], np.ones((1, 3, 3, 4)), [3])
        writer.write([1], np.ones((1, 2, 3, 4)), [2])
    assert len(FeatureStore(tmp_path)) == 2
    with pytest.raises(ValueError, match="1 to 254 frames, not 300"):
        FeatureWriter(tmp_path, "rank-x", ["a"], 300)


def test_a_full_disk_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (writer,) = open_writers(tmp_path, HEADER, [str(n) for n in range(10**6)], 0, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with writer, pytest.raises(ValueError, match=r"the features need 0\.8 GB in .*, where 0\.0 GB are free"):
        writer.write([0], np.zeros((1, 2, 10, 20)), [2])
    assert not list(tmp_path.glob("*.npy"))


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no features \(no header.json\)"):
        FeatureStore(tmp_path)
    write(tmp_path, ["a", "b"])
    data = tmp_path / "rank-00000-of-00001-000.npy"
    whole = data.read_bytes()
    data.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"rank-00000-of-00001-000\.npy cannot be read"):
        FeatureStore(tmp_path)["a"]
    data.write_bytes(whole)
    state = tmp_path / "rank-00000-of-00001-000.state"
    state.write_bytes(bytes([2]))
    with pytest.raises(ValueError, match=r"000\.state knows 1 rows, .* 2: copy both again"):
        len(FeatureStore(tmp_path))
    state.write_bytes(bytes([2, 2]))
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(ValueError, match=r"header\.json is broken"):
        FeatureStore(tmp_path).check(HEADER)


def test_notes_without_a_mark_do_not_count(tmp_path: Path) -> None:
    """A writer killed between the note and its mark, or within the note."""
    write(tmp_path, ["a"])
    notes = tmp_path / "rank-00000-of-00001-000.bad.jsonl"
    notes.write_text('{"image_id": "a", "path": "a.jpg", "reason": "x"}\n{"image_i')
    assert FeatureStore(tmp_path).bad == {}
    (tmp_path / "rank-00000-of-00001-000.state").write_bytes(bytes([BAD]))
    assert FeatureStore(tmp_path).bad == {"a": ("a.jpg", "x")}
