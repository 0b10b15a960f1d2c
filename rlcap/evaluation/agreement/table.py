"""Many metrics on one benchmark: measured, and as one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlcap.evaluation.agreement.benchmark import Benchmark, Ratings
from rlcap.evaluation.agreement.metrics import Metric
from rlcap.evaluation.agreement.statistics import (
    CONFIDENCE,
    Interval,
    Statistics,
    bootstrap,
    measure,
    statistic,
)
from rlcap.evaluation.correlations import TITLES


@dataclass(frozen=True)
class Agreement:
    """What one metric brought: statistics x 100 and, where there was a bootstrap, their 95 % intervals."""

    label: str
    described: dict[str, Any]
    statistics: Statistics
    intervals: dict[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """The statistics as {value, interval}, and what determined the scores."""
        values: dict[str, Any] = {}
        for key, value in self.statistics.items():
            values[key] = {"value": value}
            if key in self.intervals:
                values[key]["interval"] = [None if math.isnan(end) else end for end in self.intervals[key]]
        return {**values, "metric": self.described}


def measure_metrics(
    benchmark: Benchmark,
    metrics: Sequence[Metric],
    scores: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Agreement]:
    """The statistics of each metric from its scores `[C]`; `resamples` 0 leaves the intervals out.

    Raises ValueError for a metric or ratings without any order: all scores, or all ratings, are equal.
    """
    measured = []
    for metric in metrics:
        own = scores[metric.label]
        statistics = measure(benchmark, own)
        if any(math.isnan(value) for value in statistics.values()):
            raise ValueError(
                f"{metric.label} on {benchmark.name}: no correlation is defined, because all scores or all ratings "
                f"are equal (scores from {own.min():g} to {own.max():g})"
            )
        intervals: dict[str, Interval] = {}
        if resamples:
            intervals = bootstrap(benchmark.images, statistic(benchmark, own), resamples, seed, metric.label)
        measured.append(Agreement(metric.label, metric.describe(benchmark), statistics, intervals))
    return measured


def counts(benchmark: Benchmark) -> dict[str, int]:
    """How many pictures, captions and judgments a benchmark has."""
    judgments, candidates = benchmark.judgments, benchmark.candidates
    return {
        "images": len(set(benchmark.images)),
        "captions": len({(c.image_id, c.caption) for c in benchmark.candidates}),
        # A pair that is scored with several draws of references was judged once.
        "judgments": judgments.count
        if isinstance(judgments, Ratings)
        else sum(candidates[pair.better[0]].draw == 0 for pair in judgments),
    }


def as_markdown(benchmark: Benchmark, measured: Sequence[Agreement], resamples: int, seed: int) -> str:
    """A Markdown table, a metric a row, three decimals, with the intervals in brackets; below, what was measured."""
    keys = list(measured[0].statistics)
    head = ["metric", *(title(key) for key in keys)]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(keys)}"]
    for own in measured:
        cells = [own.label.replace("|", "\\|"), *(cell(own, key) for key in keys)]
        lines.append(f"| {' | '.join(cells)} |")
    of = ", ".join(f"{number:,} {name}" for name, number in counts(benchmark).items())
    note = f"{benchmark.name}: {of}. x 100. {benchmark.protocol[0].upper()}{benchmark.protocol[1:]}."
    if resamples:
        note += f" In brackets {CONFIDENCE:.0%} intervals of {resamples:,} bootstraps over pictures (seed {seed})."
    return "\n".join([*lines, "", note, ""])


def title(key: str) -> str:
    """What a statistic is called in tables: "Kendall τ-b", "accuracy HC"."""
    name, _, category = key.partition("/")
    return f"{TITLES.get(name, name)} {category}".strip()


def cell(own: Agreement, key: str) -> str:
    """A statistic with three decimals, as published, and its interval with two."""
    value = f"{own.statistics[key]:.3f}"
    if key not in own.intervals:
        return value
    low, high = own.intervals[key]
    return f"{value} [{low:.2f}, {high:.2f}]"
