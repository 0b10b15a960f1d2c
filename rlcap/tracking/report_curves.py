"""What a report draws: the numbers of `metrics.jsonl` as series, in groups, and the table of what a run brought."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.evaluation.metrics import IN_SHORT, METRICS, direction
from rlcap.evaluation.ranking import BY_KIND, RANKED
from rlcap.tracking.evaluations import evaluation_records, is_number
from rlcap.tracking.report_runs import Run

MAX_POINTS = 400  # of a series; longer ones are drawn as means over as many stretches
NOT_DRAWN = {"step", "epoch", "total_flos", "eval/captions"}
TEXTS = {
    "reward": "the combined reward of the samples, mean",
    "reward_std": "its deviation within a picture",
    "frac_reward_zero_std": "share of pictures whose samples all score the same: nothing to learn from",
    "completions/mean_length": "tokens a sampled caption",
    "completions/clipped_ratio": "share of samples that did not end",
    "entropy": "nats a token",
    "kl": "to the captioner as it was at the start, a token",
    "kl_lower_bound": "of the KL to the reference a token, at the tokens of the chains",
    "rewards/margin": "implicit reward of a caption of a chain above that of the next one",
    "rewards/margin_best_worst": "implicit reward of the best caption of a chain above that of the worst",
    "log_probs/best": "nats, of the best caption of a chain: its fall is DPO's known failure",
    "log_probs/worst": "nats, of the worst caption of a chain",
    "loss": "mean over tokens or captions",
    "xe_loss": "cross-entropy on the references",
    "grad_norm": "before clipping",
    "learning_rate": "of the schedule",
    "time/encode": "seconds a micro-batch",
    "time/sample": "seconds a micro-batch",
    "time/reward": "seconds a micro-batch",
    "time/update": "seconds a micro-batch: forward and backward",
    "time/evaluate": "seconds an evaluation",
}


@dataclass(frozen=True)
class Group:
    """Charts under one heading: metrics whose names match `pattern`; those that match `first` are shown at once."""

    title: str
    pattern: str
    first: str


# A metric belongs to the first group that matches its name.
GROUPS = (
    Group(
        "Order of chains",
        r"(eval/)?(ranking/|assessment/|log_probs/|rewards/(position|margin))|(eval/)?kl_lower_bound$",
        r"(eval/)?(ranking|assessment)/(pair_accuracy|exact_order)$|(eval/)?(log_probs/best|rewards/margin)$",
    ),
    Group("Rewards", r"reward(_std)?$|rewards/|frac_reward", r"reward(_std)?$|rewards/.*/mean$"),
    Group("Length and words", r"completions/|eval/(length|vocabulary|distinct_\d)$", r"completions/|eval/(length|voc)"),
    Group("Repetition", r"repetition/|eval/rep_", r"(repetition/rep|eval/rep)_[14](_count)?$"),
    Group("Grammar", r"grammar/|eval/(bad_ending|repeated_word|.*_error)_rate$", r""),
    Group("Validation", r"eval/", r"eval/(cider|bleu_4|rouge_l|meteor)$"),
    Group("Entropy and objective", r"(entropy|kl|loss|xe_loss|grad_norm|learning_rate)$", r"entropy$|kl$|loss$"),
    Group("Phase times", r"time/", r"time/(encode|sample|reward|update)$"),
    Group("Other", r"", r"(?!)"),
)
ORDER = (
    "Order of chains",
    "Rewards",
    "Validation",
    "Length and words",
    "Repetition",
    "Grammar",
    "Entropy and objective",
    "Phase times",
)


def curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The groups of a page, each with its charts; a chart has one series a run that measured it.

    A series is `[step, value]` in the order of the steps; `mean_of` says over how many lines a point is the mean.
    """
    series = [_series(run) for run in runs]
    metrics = dict.fromkeys(name for own in series for name in own)
    by_title: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for metric in sorted(metrics, key=_place):
        group = next(group for group in GROUPS if re.match(group.pattern, metric))
        drawn = [{"run": i, **_thinned(own[metric])} for i, own in enumerate(series) if metric in own]
        chart = {"metric": metric, "text": describe(metric), "series": drawn}
        shown = "charts" if re.match(group.first, metric) else "more"
        by_title.setdefault(group.title, {"charts": [], "more": []})[shown].append(chart)
    return [{"title": title, **by_title[title]} for title in (*ORDER, "Other") if title in by_title]


def results(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a validation metric: for each run its first, best and last evaluation, None where it has none.

    "best" is the evaluation that `best/` comes from, the same for all metrics; `better` is 1 where more is better, -1
    where less is, 0 where neither; `main`: it belongs into a short table.
    """
    evaluated = [evaluation_records(run.records) for run in runs]
    measured = {metric for own in evaluated for metrics in own.values() for metric in metrics} - {"captions"}
    rows = []
    for metric in sorted(measured, key=lambda name: _place(f"eval/{name}")):
        cells = []
        for run, own in zip(runs, evaluated, strict=True):
            steps = [step for step, metrics in own.items() if metric in metrics]
            best = run.best_step if run.best_step in steps else None
            cells.append(
                {
                    name: None if step is None else {"step": step, "value": own[step][metric]}
                    for name, step in zip(("first", "best", "last"), _ends(steps, best), strict=True)
                }
            )
        text = describe(f"eval/{metric}")
        main = metric in IN_SHORT or any(
            run.described["settings"].get("metric_for_best_model") == metric for run in runs
        )
        rows.append({"metric": metric, "text": text, "better": direction(metric), "main": main, "cells": cells})
    return rows


def describe(metric: str) -> str:
    """What a metric is, in a few words; empty for one that is not ours."""
    if metric.removeprefix("eval/").startswith(("ranking/", "assessment/", "rewards/position", "rewards/margin")):
        return _of_chains(metric.removeprefix("eval/"))
    if metric.startswith("eval/"):
        name = metric.removeprefix("eval/")
        return METRICS.get(name) or TEXTS.get(name, "")
    if metric.startswith("grammar/"):
        return METRICS.get(metric.removeprefix("grammar/"), "")
    if metric.startswith("repetition/rep_"):
        return f"repeated {metric.removeprefix('repetition/rep_')}-grams a sampled caption, mean"
    if metric.startswith("rewards/"):
        return "mean over samples" if metric.endswith("/mean") else "deviation within a picture"
    return TEXTS.get(metric, "")


def _of_chains(metric: str) -> str:
    by, _, measure = metric.partition("/")
    if by == "rewards":
        place = measure.removeprefix("position_")
        return TEXTS.get(metric) or f"mean implicit reward of the captions at place {place} of a chain, the best is 1"
    if metric in RANKED:
        return RANKED[metric]
    return f"{RANKED[f'{by}/adjacent_accuracy']}; edits of the kind {measure.removeprefix(BY_KIND)}"


def _ends(steps: list[int], best: int | None) -> tuple[int | None, int | None, int | None]:
    return (steps[0], best, steps[-1]) if steps else (None, None, None)


def _place(metric: str) -> tuple[int, int, str]:
    """Validation metrics in the order of METRICS, CIDEr first; the others by name."""
    name = metric.removeprefix("eval/")
    order = list(METRICS)
    return (metric.startswith("eval/"), -1 if name == "cider" else order.index(name) if name in order else 99, metric)


def _series(run: Run) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in sorted(run.records, key=lambda record: record["step"]):
        for name, value in record.items():
            if is_number(value) and name not in NOT_DRAWN:
                found.setdefault(name, []).append((record["step"], float(value)))
    return found


def _thinned(points: list[tuple[int, float]]) -> dict[str, Any]:
    """At most MAX_POINTS points: means over stretches of equally many lines, each at the last step of its stretch."""
    stretch = -(-len(points) // MAX_POINTS)
    stretches = [points[start : start + stretch] for start in range(0, len(points), stretch)]
    means = [[own[-1][0], sum(value for _, value in own) / len(own)] for own in stretches]
    return {"points": means, "mean_of": stretch}
