"""Metrics by name: the classical ones of pycocoevalcap, and every reward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rewards
from rewards import Reward
from rlcap.console import progress
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate
from rlcap.evaluation.agreement.classical import CLASSICAL, classical_scores, describe_classical
from rlcap.evaluation.scoring import Item, in_batches, score_items
from rlcap.near import did_you_mean


@dataclass(frozen=True)
class Metric:
    """A column of the table: `reward` scores it, or pycocoevalcap where that is None."""

    label: str
    name: str
    reward: Reward | None

    def describe(self, benchmark: Benchmark) -> dict[str, Any]:
        """What determines its scores on the benchmark."""
        return describe_classical(self.name, benchmark) if self.reward is None else rewards.describe(self.reward)


def resolve(
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    benchmark: Benchmark,
    corpus: Mapping[str, Sequence[str]] | None = None,
) -> list[Metric]:
    """The metrics of the names given: classical ones (`bleu-1` … `cider-d`), rewards, or LABEL=NAME.

    A label tells apart several rewards of one name with different `options` (by label, else by name). The classical
    `cider-d` takes precedence over the reward of that name, which is still there as `rewards.cider_d:CiderD`. Rewards
    that count on a corpus get `corpus` (id -> captions), or else the benchmark's references. Raises ValueError for an
    unknown name or option, options of a metric that is not asked for or takes none, and two metrics of one label.
    """
    split = [_label_and_name(text) for text in names]
    labels = [label for label, _ in split]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"two metrics are called {', '.join(twice)}; write LABEL=NAME to tell them apart")
    unused = [key for key in options if key not in labels]
    if unused:
        raise ValueError(f"options for {', '.join(unused)}, but the metrics are {', '.join(labels)}")
    metrics = []
    for label, name in split:
        own = dict(options.get(label, {}))
        if name in CLASSICAL and own:
            raise ValueError(f"the metric {name} takes no options, but {', '.join(own)} were given")
        reward = None if name in CLASSICAL else _reward(name, own, _references(benchmark) if corpus is None else corpus)
        metrics.append(Metric(label, name, reward))
    return metrics


def _label_and_name(text: str) -> tuple[str, str]:
    label, equals, name = text.partition("=")
    if equals and not (label and name):
        raise ValueError(f"the metric {text!r} is neither NAME nor LABEL=NAME")
    return (label, name) if equals else (text, text)


def _reward(name: str, options: dict[str, Any], corpus: Mapping[str, Sequence[str]]) -> Reward:
    if ":" not in name and name not in rewards.BUILT_IN:
        known = did_you_mean(name, (*CLASSICAL, *rewards.BUILT_IN))
        raise ValueError(
            f"there is no metric {name!r}{known}; there are {', '.join(CLASSICAL)}, the rewards "
            f"{', '.join(key for key in rewards.BUILT_IN if key not in CLASSICAL)}, and your own as "
            "package.module:attribute"
        )
    return rewards.load(name, corpus=corpus, **options)


def _references(benchmark: Benchmark) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for candidate in benchmark.candidates:
        found.setdefault(candidate.image_id, list(candidate.references))
    return found


def score(metrics: Sequence[Metric], benchmark: Benchmark, batch_size: int, workers: int) -> dict[str, np.ndarray]:
    """The scores `[C]` of each metric by its label.

    Raises ValueError where a reward leaves a candidate unscored: metrics are compared on the same judgments.
    """
    classical = [metric.name for metric in metrics if metric.reward is None]
    counted = classical_scores(classical, benchmark) if classical else {}
    return {
        metric.label: counted[metric.name]
        if metric.reward is None
        else _reward_scores(metric.reward, metric.label, benchmark.candidates, batch_size, workers)
        for metric in metrics
    }


def _reward_scores(
    reward: Reward, label: str, candidates: Sequence[Candidate], batch_size: int, workers: int
) -> np.ndarray:
    """Scores each distinct caption once; a reward that needs no references gets none, so draws of them are one."""
    reads = "references" in reward.needs
    keys = [(c.image_id, c.caption, c.references if reads else ()) for c in candidates]
    distinct = {key: Item(*key, visual=c.visual) for key, c in zip(keys, candidates, strict=True)}
    items = list(distinct.values())
    values = np.full(len(items), np.nan)
    batches = in_batches(items, batch_size)
    with progress(total=len(items), desc=label, unit="caption", leave=False, delay=2) as bar:
        for scored in score_items(reward, items, batches, workers=workers):
            values[scored.positions] = [np.nan if value is None else value for value in scored.values]
            bar.update(len(scored.positions))
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        first = items[int(missing[0])]
        raise ValueError(
            f"{label}: {len(missing)} of {len(items)} captions were not scored, the first {first.caption!r} of the "
            f"picture {first.image_id!r}; agreement is measured on all judgments"
        )
    at = {key: number for number, key in enumerate(distinct)}
    return values[[at[key] for key in keys]]
