"""How far metrics and rewards agree with human judgments, by the published protocols."""

from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Pair, Ratings
from rlcap.evaluation.agreement.readers import BENCHMARKS, Reading, load_benchmark
from rlcap.evaluation.agreement.table import Agreement, measure_metrics

__all__ = [
    "BENCHMARKS",
    "Agreement",
    "Benchmark",
    "Candidate",
    "Pair",
    "Ratings",
    "Reading",
    "load_benchmark",
    "measure_metrics",
]
