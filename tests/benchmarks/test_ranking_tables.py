"""The tables of benchmarks/ranking.py from results on the disk."""

import json
import runpy
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "ranking.py"


def test_any_run_that_is_there_is_shown(tmp_path: Path) -> None:
    run = tmp_path / "Plackett-Luce-vision_tuned-1"
    run.mkdir()
    order = {"pair_accuracy": 0.5, "adjacent_accuracy": 0.5, "kendall_tau": 0.25, "exact_order": 0.125}
    controls = {
        "true": {**order, "adjacent_accuracy/object": 0.75},
        "shuffled": {**order, "adjacent_accuracy/object": 0.5},
    }
    (run / "scores.json").write_text(json.dumps({"cider": 12.5, "rep_4_count": 0.0, "length": 9.0, "vocabulary": 7.0}))
    (run / "log_probs.json").write_text(json.dumps({"controls": controls}))
    given = ["--data", "x", "--vision", "x", "--output", str(tmp_path), "--seeds", "0", "1", "--only-show"]
    done = subprocess.run([sys.executable, str(BENCHMARK), *given], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "| steps, by log-probability | object true | object shuffled | seeds |" in done.stdout
    assert "| Plackett-Luce, vision tuned | 75.00 | 50.00 | 1 |" in done.stdout
    # What was not measured has neither a column nor a row.
    assert "| pairs in order | log-probability true | log-probability shuffled | seeds |" in done.stdout
    assert "| Plackett-Luce, vision tuned | 12.50 | 0.00 | 9.00 | 7.00 | 1 |" in done.stdout
    assert "DPO, best" not in done.stdout


def test_balanced_chains_are_in_order_for_the_blind_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    balance = runpy.run_path(str(BENCHMARK))["balance"]
    shares = [Fraction(1), Fraction(1), Fraction(0), Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), Fraction(1, 3)]
    kept = balance(["test"] * len(shares), shares, seed=0)
    assert kept == sorted(kept)
    assert sorted(shares[number] for number in kept) == [0, Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), 1]
    assert balance(["train", "test"], [Fraction(1), Fraction(0)], seed=0) == []
