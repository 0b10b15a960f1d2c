"""What the tests of launching share with those of training: drawn scenes, a tiny captioner, commands in processes."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
for folder in ("captioners", "rewards", "training"):
    sys.path.insert(0, str(TESTS / folder))

from small import scene_captioner  # noqa: E402

from rlcap.data import load_captions  # noqa: E402
from rlcap.data.scenes import make_scenes  # noqa: E402


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
