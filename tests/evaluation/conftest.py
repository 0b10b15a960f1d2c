"""Makes the small benchmarks of judged.py and the small CLIPs of the reward tests importable."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "rewards")]
