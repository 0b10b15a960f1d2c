"""What a benchmark of human judgments is: captions, and what people said of them."""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace

import numpy as np

from rlcap.evaluation.scoring import Item


@dataclass(frozen=True)
class Candidate(Item):
    """A caption that people judged; `draw` numbers the random choice of references that it is scored with."""

    draw: int = 0


@dataclass(frozen=True)
class Ratings:
    """People's ratings `[C, R]` of C candidates, NaN where there is none.

    pooled: every rating is a sample (the candidate's score repeated); else each statistic is that of a rater (a
        column) with the scores, averaged over the raters.
    decimals: the scores are rounded to so many first, as the published code of the benchmark does.
    """

    values: np.ndarray
    pooled: bool = True
    decimals: int | None = None

    @property
    def count(self) -> int:
        """How many ratings there are."""
        return int((~np.isnan(self.values)).sum())


@dataclass(frozen=True)
class Pair:
    """Candidates (by number) of which people prefer `better`; several on a side are a paragraph: their mean counts."""

    better: tuple[int, ...]
    worse: tuple[int, ...]
    image_id: str
    category: str = ""


@dataclass(frozen=True)
class Benchmark:
    """Candidates and the judgments on them: ratings (correlations are measured) or pairs (accuracy).

    protocol: in words, how the published work measures on it, for the record.
    """

    name: str
    candidates: list[Candidate]
    judgments: Ratings | list[Pair]
    protocol: str

    @property
    def images(self) -> list[str]:
        """The image id of each judged sample: of the candidates under ratings, of the pairs else."""
        samples = self.candidates if isinstance(self.judgments, Ratings) else self.judgments
        return [sample.image_id for sample in samples]

    def rows(self, draw: int) -> list[int]:
        """The candidates of a draw as the published code lists them: one for each rating, or each side of a pair."""
        if isinstance(self.judgments, Ratings):
            counts = (~np.isnan(self.judgments.values)).sum(axis=1) if self.judgments.pooled else None
            listed = np.repeat(np.arange(len(self.candidates)), 1 if counts is None else counts).tolist()
        else:
            listed = [number for pair in self.judgments for number in (*pair.better, *pair.worse)]
        return [number for number in listed if self.candidates[number].draw == draw]

    def only(self, image_ids: Collection[str]) -> "Benchmark":
        """The judgments on these pictures; raises ValueError where there is none."""
        if isinstance(self.judgments, Ratings):
            kept = [n for n, candidate in enumerate(self.candidates) if candidate.image_id in image_ids]
            judgments: Ratings | list[Pair] = replace(self.judgments, values=self.judgments.values[kept])
        else:
            pairs = [pair for pair in self.judgments if pair.image_id in image_ids]
            kept = sorted({number for pair in pairs for number in (*pair.better, *pair.worse)})
            new = {number: position for position, number in enumerate(kept)}
            judgments = [
                replace(pair, better=tuple(new[n] for n in pair.better), worse=tuple(new[n] for n in pair.worse))
                for pair in pairs
            ]
        if not kept:
            raise ValueError(f"{self.name}: none of the {len(image_ids)} pictures that are to be kept was judged")
        return replace(self, candidates=[self.candidates[number] for number in kept], judgments=judgments)

    def with_references(self, most: int) -> "Benchmark":
        """The first `most` references of each candidate; raises ValueError for fewer than 1."""
        if most < 1:
            raise ValueError(f"{self.name}: {most} references are asked for; give at least 1")
        return replace(self, candidates=[replace(c, references=c.references[:most]) for c in self.candidates])


# What tells a judged caption from others (its picture, its text, what it is compared with) -> candidate and ratings.
Found = dict[tuple[Hashable, ...], tuple[Candidate, list[float]]]


def rated(name: str, found: Found, protocol: str, source: str) -> Benchmark:
    """A benchmark of pooled ratings; raises ValueError for none."""
    if not found:
        raise ValueError(f"{source} holds no rating")
    width = max(len(ratings) for _, ratings in found.values())
    values = np.full((len(found), width), np.nan)
    for row, (_, ratings) in zip(values, found.values(), strict=True):
        row[: len(ratings)] = ratings
    return Benchmark(name, [candidate for candidate, _ in found.values()], Ratings(values), protocol)
