"""Makes the tiny models of the captioner and reward tests importable, and commands in processes of their own."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in ("captioners", "training", "rewards"):  # tiny, commands and tiny_clip
    sys.path.insert(0, str(TESTS / folder))
