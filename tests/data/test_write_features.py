"""write_features: killed and resumed, on two ranks, with bad pictures, and with a real captioner."""

import json
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tiny_tower
import torch
from datasets import Dataset
from tiny_tower import TinyTower
from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

from captioners import GridTransformer, GridTransformerConfig
from rlcap.data import load_captions
from rlcap.data.collate import VisualCollator, open_visual
from rlcap.data.features import FeatureStore
from rlcap.data.scenes import make_scenes
from rlcap.data.write_features import feature_header, most_frames, write_features


@pytest.fixture(scope="module", params=[False, True], ids=["pictures", "clips"])
def captions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "s", 30, 0, 0, 0, clips=request.param)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def values(store: FeatureStore, dataset: Dataset) -> np.ndarray:
    return np.stack([store[image_id] for image_id in dataset["image_id"]])


def test_values_are_the_towers(captions: Path, tmp_path: Path) -> None:
    dataset = load_captions(captions)
    tower = TinyTower().train()
    store = write_features(tower, dataset, tmp_path, batch_size=7, num_workers=2)
    assert tower.training  # as it was
    frames = most_frames(dataset)
    assert frames == (4 if "frames" in dataset.column_names else 1)
    assert values(store, dataset).shape == (30, frames, 16, 5)
    visuals = tower.preprocessor([open_visual(row) for row in dataset])
    with torch.no_grad():
        assert np.array_equal(values(store, dataset), tower.eval().features(visuals).half().numpy())
    store.check(feature_header(TinyTower(), frames))
    calls = tower.calls
    write_features(tower, dataset, tmp_path, batch_size=7)
    assert tower.calls == calls  # nothing is done twice


@pytest.mark.parametrize("flush_seconds", ["0", "1e9"], ids=["flushed", "not flushed"])
def test_killed_and_continued_is_bit_identical(captions: Path, tmp_path: Path, flush_seconds: str) -> None:
    dataset = load_captions(captions)
    write_features(TinyTower(), dataset, tmp_path / "whole", batch_size=4)
    command = [
        sys.executable,
        tiny_tower.__file__,
        str(captions),
        str(tmp_path / "killed"),
        "0",
        "1",
        "5",
        flush_seconds,
    ]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(FeatureStore(tmp_path / "killed")) == (20 if flush_seconds == "0" else 0)
    tower = TinyTower()
    write_features(tower, dataset, tmp_path / "killed", batch_size=4)
    assert tower.calls == (3 if flush_seconds == "0" else 8)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_two_ranks_are_one_process(captions: Path, tmp_path: Path) -> None:
    dataset = load_captions(captions)
    whole = write_features(TinyTower(), dataset, tmp_path / "whole", batch_size=4)
    write_features(TinyTower(), dataset, tmp_path / "two", batch_size=4, rank=1, world=2)
    with pytest.raises(ValueError, match="lacks the features of train-00000, train-00002"):
        FeatureStore(tmp_path / "two").require(dataset["image_id"])
    two = write_features(TinyTower(), dataset, tmp_path / "two", batch_size=4, rank=0, world=2)
    two.require(dataset["image_id"])
    assert len(list((tmp_path / "two").glob("*.npy"))) == 2
    assert np.array_equal(values(two, dataset), values(whole, dataset))


def test_another_tower_is_refused(captions: Path, tmp_path: Path) -> None:
    dataset = load_captions(captions)
    write_features(TinyTower(), dataset.select(range(4)), tmp_path)
    for tower, message in (
        (TinyTower(weight_seed=1), "weights: stored sha256:.*, now sha256:"),
        (TinyTower().half(), "weights: stored"),
        (TinyTower(side=40), "preprocessor: pictures became"),
        (TinyTower(mean=0.5), "preprocessor: resizing, cropping or normalisation differ"),
    ):
        with pytest.raises(ValueError, match=message):
            write_features(tower, dataset, tmp_path)
    assert len(FeatureStore(tmp_path)) == 4


def test_bad_pictures_are_noted_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load_captions(make_scenes(tmp_path / "s", 12, 0, 0, 0))
    paths = [Path(path) for path in dataset["image"]]
    good = paths[5].read_bytes()
    paths[5].write_text("not a picture")
    store = write_features(TinyTower(), dataset, tmp_path / "f", batch_size=4, num_workers=2)
    assert "skipped a picture" in capsys.readouterr().err
    assert store.bad == {"train-00005": (str(paths[5]), "is not a picture in a format that Pillow knows")}
    assert len(store) == 11
    tower = TinyTower()
    write_features(tower, dataset, tmp_path / "f", batch_size=4)
    assert tower.calls == 0  # still bad: known, not warned of again
    seventh = paths[7].read_bytes()
    paths[7].write_text("nor this")
    with pytest.raises(ValueError, match=r"(?s)2 of 12 pictures cannot be decoded, more than the 1 that"):
        write_features(TinyTower(), dataset, tmp_path / "strict", batch_size=4)
    paths[5].write_bytes(good)
    paths[7].write_bytes(seventh)
    store = write_features(TinyTower(), dataset, tmp_path / "f", batch_size=4)
    assert store.bad == {}
    assert len(store) == 12


def test_what_is_wrong_with_a_call(captions: Path, tmp_path: Path) -> None:
    dataset = load_captions(captions)
    with pytest.raises(ValueError, match="rank must be 0 to 1 for 2 processes, not 2"):
        write_features(TinyTower(), dataset, tmp_path, rank=2, world=2)
    with pytest.raises(ValueError, match="these repeat: train-00000"):
        write_features(TinyTower(), dataset.select([0, 0, 1]), tmp_path)


def test_header() -> None:
    header = feature_header(TinyTower())
    assert header == json.loads(json.dumps(header)) == feature_header(TinyTower())
    assert header["vision_model"] == "Conv2d"
    assert header["preprocessor"]["shape"] == [3, 32, 32]
    assert len(set(header["preprocessor"]["probe"])) > 40  # neighbours differ, or resizing would not show


@pytest.mark.parametrize("clips", [False, True], ids=["pictures", "clips"])
def test_a_real_captioner_sees_the_same_through_its_stored_features(tmp_path: Path, clips: bool) -> None:
    dataset = load_captions(make_scenes(tmp_path / "s", 12, 0, 0, 0, clips=clips))
    vision = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    vision.save_pretrained(tmp_path / "vision")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vision")
    sizes = GridTransformerConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, heads=2, ffn=32, max_frames=4 if clips else 1, vocab_size=300
    )
    captioner = GridTransformer.create(tmp_path / "vision", chain(*dataset["references"]), sizes)
    captioner.freeze("vision")
    store = write_features(captioner, dataset, tmp_path / "f", batch_size=5, num_workers=2)
    store.check(feature_header(captioner, most_frames(dataset)))
    rows = list(dataset)
    seen = VisualCollator(captioner.preprocessor)(rows)["visual"]
    stored = VisualCollator(None, store)(rows)["visual"]
    assert stored["features"].shape == (12, 4 if clips else 1, *captioner.features(seen).shape[2:])
    with torch.no_grad():
        difference = captioner.encode(stored).states - captioner.encode(seen).states
    assert difference.abs().max() < 5e-3  # fp16
    with torch.no_grad():
        next(captioner.vision.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="weights: stored"):
        store.check(feature_header(captioner, most_frames(dataset)))
