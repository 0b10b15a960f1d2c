"""The evaluations among the lines of `metrics.jsonl`, and which of them `best/` comes from."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlcap.evaluation.metrics import direction


def evaluation_records(records: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """step -> metric (without `eval/`) -> value, in the order of the steps."""
    found: dict[int, dict[str, float]] = {}
    for record in records:
        metrics = {
            name.removeprefix("eval/"): float(value)
            for name, value in record.items()
            if name.startswith("eval/") and is_number(value)
        }
        if metrics:
            found[record["step"]] = metrics
    return dict(sorted(found.items()))


def best_step(evaluations: Mapping[int, Mapping[str, float]], settings: Mapping[str, Any]) -> int | None:
    """The step at which a run last found a better captioner, by its own `metric_for_best_model` and threshold."""
    metric = settings.get("metric_for_best_model") or "cider"
    greater = settings.get("greater_is_better")
    sign = -1 if greater is False or (greater is None and direction(metric) < 0) else 1
    threshold = settings.get("early_stopping_threshold") or 0.0
    best: tuple[int, float] | None = None
    for step, metrics in evaluations.items():
        value = metrics.get(metric)
        if value is not None and (best is None or sign * (value - best[1]) > threshold):
            best = (step, value)
    return None if best is None else best[0]


def is_number(value: Any) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
