"""The tiny captioners of the other tests, and the code of the documentation."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tests/captioners", "tests/training", "docs"):  # tiny.py, small.py, reference.py
    sys.path.insert(0, str(ROOT / folder))
