"""What the tests of surviving share with others: drawn scenes, a tiny captioner, commands in processes."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in ("captioners", "training", "launching"):
    sys.path.insert(0, str(TESTS / folder))

from scene_fixtures import captioner_folder, chains, scenes  # noqa: E402, F401
