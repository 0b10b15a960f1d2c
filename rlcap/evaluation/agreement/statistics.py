"""How far scores agree with people: rank correlations, accuracy on pairs, and bootstrap intervals over pictures."""

from collections.abc import Callable, Sequence

import numpy as np

from rlcap.console import progress
from rlcap.evaluation.agreement.benchmark import Benchmark, Pair, Ratings
from rlcap.evaluation.agreement.counted import MOST_LEVELS, CountedCorrelations
from rlcap.evaluation.correlations import correlations

Statistics = dict[str, float]
Statistic = Callable[[np.ndarray], Statistics]
Interval = tuple[float, float]

# What the published tables have of ratings, in their order; all values are x 100.
OF_RATINGS = ("kendall_b", "kendall_c", "spearman")
CONFIDENCE = 0.95


def statistic(benchmark: Benchmark, scores: np.ndarray) -> Statistic:
    """The benchmark's statistics, x 100, of the candidates' scores `[C]`, as a function of the judged samples drawn.

    Samples are rated candidates or pairs, by number, with repeats. Ratings give `kendall_b`, `kendall_c`, `spearman`;
    pairs give `accuracy` and, where they have categories, `accuracy/<category>`. NaN where one is undefined: scores or
    ratings that are all equal, a category without a pair.
    """
    judgments = benchmark.judgments
    return _correlating(scores, judgments) if isinstance(judgments, Ratings) else _preferring(scores, judgments)


def measure(benchmark: Benchmark, scores: np.ndarray) -> Statistics:
    """The statistics over all samples."""
    return statistic(benchmark, scores)(np.arange(len(benchmark.images)))


def _correlating(scores: np.ndarray, ratings: Ratings) -> Statistic:
    """Kendall's τ-b and τ-c and Spearman's ρ."""
    if ratings.decimals is not None:
        scores = np.round(scores, ratings.decimals)
    raters = ratings.values.T
    if ratings.pooled:
        scores, raters = np.tile(scores, len(raters)), raters.reshape(1, -1)
    of_raters = [_of_rater(scores, of_rater) for of_rater in raters]
    times = len(scores) // len(ratings.values)

    def of_samples(samples: np.ndarray) -> Statistics:
        counts = np.tile(np.bincount(samples, minlength=len(ratings.values)), times)
        each = [of_rater(counts) for of_rater in of_raters]
        return {key: 100 * float(np.mean([own[key] for own in each])) for key in OF_RATINGS}

    return of_samples


def _of_rater(scores: np.ndarray, ratings: np.ndarray) -> Callable[[np.ndarray], Statistics]:
    """The correlations with one rater's ratings, of which some may be missing, by how often each thing is drawn."""
    known = ~np.isnan(ratings)
    a, b = scores[known], ratings[known]
    if len(np.unique(b)) <= MOST_LEVELS:
        counted = CountedCorrelations(a, b)
        return lambda counts: counted(counts[known])

    def repeated(counts: np.ndarray) -> Statistics:
        return correlations(np.repeat(a, counts[known]), np.repeat(b, counts[known]), OF_RATINGS)

    return repeated


def _preferring(scores: np.ndarray, pairs: Sequence[Pair]) -> Statistic:
    """Percent of pairs whose better side scores higher; equal scores are a miss, as in the published code."""
    right = np.array([scores[list(pair.better)].mean() > scores[list(pair.worse)].mean() for pair in pairs])
    of = {name: np.array([pair.category == name for pair in pairs]) for name in sorted({p.category for p in pairs})}

    def accuracies(samples: np.ndarray) -> Statistics:
        drawn = right[samples]
        values = {f"accuracy/{name}": _percent(drawn[own[samples]]) for name, own in of.items() if name}
        return {"accuracy": _percent(drawn), **values}

    return accuracies


def _percent(right: np.ndarray) -> float:
    return 100 * float(right.mean()) if len(right) else float("nan")


def bootstrap(images: Sequence[str], of: Statistic, resamples: int, seed: int, what: str = "") -> dict[str, Interval]:
    """Percentile intervals (95 %) of statistics, from drawing as many pictures as there are, with replacement.

    Pictures are drawn, not samples, because judgments on one picture go together. images: the picture of each sample;
    of: the statistics of the samples drawn, by number. The same seed draws the same pictures for every metric.
    Resamples in which a statistic is undefined are left out of its interval (NaN where all are).
    """
    if resamples < 1:
        raise ValueError(f"the bootstrap needs at least 1 resample, not {resamples}")
    numbers: dict[str, list[int]] = {}
    for number, image_id in enumerate(images):
        numbers.setdefault(image_id, []).append(number)
    of_picture = [np.array(own) for own in numbers.values()]
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in progress(range(resamples), desc=f"bootstrap {what}".strip(), unit="resample", leave=False, delay=2):
        chosen = random.integers(len(of_picture), size=len(of_picture))
        for key, value in of(np.concatenate([of_picture[picture] for picture in chosen])).items():
            drawn.setdefault(key, []).append(value)
    return {key: _interval(np.array(values)) for key, values in drawn.items()}


def _interval(values: np.ndarray) -> Interval:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
