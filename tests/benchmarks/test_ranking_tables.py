"""The tables of benchmarks/ranking.py from results on the disk."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "ranking.py"


def test_any_run_that_is_there_is_shown(tmp_path: Path) -> None:
    run = tmp_path / "Plackett-Luce-vision_tuned-1"
    run.mkdir()
    order = {"pair_accuracy": 0.5, "adjacent_accuracy": 0.5, "kendall_tau": 0.25, "exact_order": 0.125}
    controls = {
        "true": {**order, "adjacent_accuracy/object": 0.75},
        "shuffled": {**order, "adjacent_accuracy/object": 0.5},
    }
    (run / "log_probs.json").write_text(json.dumps({"controls": controls}))
    given = ["--data", "x", "--vision", "x", "--output", str(tmp_path), "--seeds", "0", "1", "--only-show"]
    done = subprocess.run([sys.executable, str(BENCHMARK), *given], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "| steps, by log-probability | object true | object shuffled | seeds |" in done.stdout
    assert "| Plackett-Luce, vision tuned | 75.00 | 50.00 | 1 |" in done.stdout
