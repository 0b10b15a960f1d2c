"""What the tests of training share with others: tiny captioners and encoders, drawn scenes."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in ("captioners", "rewards", "tracking"):  # tiny, tiny encoders and wandb_reader
    sys.path.insert(0, str(TESTS / folder))

from scene_fixtures import captioner_folder, chains, scenes  # noqa: E402, F401
