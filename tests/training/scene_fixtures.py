"""Fixtures: drawn scenes and a tiny captioner of their words, made once."""

from pathlib import Path

import pytest
from small import scene_captioner

from rlcap.data import load_captions
from rlcap.data.scene_chains import write_scene_chains
from rlcap.data.scenes import make_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caption file of 24 training and 6 validation scenes, 32 pixels wide."""
    return make_scenes(tmp_path_factory.mktemp("drawn") / "scenes", 24, 6, 2, seed=1, size=32)


@pytest.fixture(scope="session")
def captioner_folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved VisionEncoderDecoder with random weights and dropout."""
    folder = tmp_path_factory.mktemp("captioners") / "tiny"
    scene_captioner(load_captions(scenes), width=32, layers=1, dropout=0.1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chains(scenes: Path) -> Path:
    """Chains of four captions of the drawn scenes."""
    return write_scene_chains(scenes, length=4, seed=1)
