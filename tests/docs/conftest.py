"""The tiny captioners of the other tests, and the code of the documentation."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tests/captioners", "tests/rewards", "tests/training", "docs"):  # tiny, lvlms, small, reference
    sys.path.insert(0, str(ROOT / folder))
