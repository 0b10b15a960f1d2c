"""The tiny captioners of the captioner tests, and commands in processes of their own."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in ("captioners", "training"):  # tiny and commands
    sys.path.insert(0, str(TESTS / folder))
