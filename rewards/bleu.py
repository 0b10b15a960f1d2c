"""Sentence BLEU, equal to the per-caption scores of pycocoevalcap's Bleu."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards import ptb
from rewards.completions import score_distinct, texts
from rewards.references import ReferenceIndices, checked_references

# What pycocoevalcap adds so that nothing divides by zero: without a match of length n the score is tiny, not zero.
_SMALL = 1e-9
_TINY = 1e-15


@dataclass(frozen=True)
class _References:
    lengths: list[int]
    most: dict[tuple[str, ...], int]  # n-gram -> its largest count in any one reference


class Bleu:
    """Reward: BLEU-n of a caption against its picture's references, in [0, 1], with the closest reference's length.

    n: the longest n-gram, 1 to 4. Raises ValueError for another n.
    """

    __name__ = "bleu"
    needs = frozenset({"references", "image_id"})
    uses_corpus = False

    def __init__(self, *, n: int = 4, max_indexed_images: int = 10_000) -> None:
        if n not in (1, 2, 3, 4):
            raise ValueError(f"bleu: n is {n!r}; give 1, 2, 3 or 4")
        self.n = n
        self._indices = ReferenceIndices(self._index, max_indexed_images, self.__name__)

    def __call__(
        self,
        completions: Sequence[Any],
        *,
        references: Sequence[Sequence[str]] | None = None,
        image_id: Sequence[Any] | None = None,
        **columns: Any,
    ) -> list[float]:
        """One score a caption; raises ValueError naming the picture that has no references."""
        captions = texts(completions, self.__name__)
        pictures = checked_references(references, image_id, len(captions), self.__name__)
        indices = {key: self._indices.get(key, own) for key, own in dict(pictures).items()}
        keys = [key for key, _ in pictures]
        return score_distinct(
            list(zip(keys, captions, strict=True)), lambda item: self._score(ptb.tokenize(item[1]), indices[item[0]])
        )

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        return {"name": self.__name__, "n": self.n, "reference_length": "closest", "tokenizer": ptb.VERSION}

    def _index(self, references: Sequence[str]) -> _References:
        tokenized = [ptb.tokenize(reference) for reference in references]
        most: dict[tuple[str, ...], int] = {}
        for tokens in tokenized:
            for counts in self._counts(tokens):
                for ngram, count in counts.items():
                    most[ngram] = max(most.get(ngram, 0), count)
        return _References([len(tokens) for tokens in tokenized], most)

    def _score(self, tokens: Sequence[str], references: _References) -> float:
        length = len(tokens)
        product = 1.0
        for n, counts in enumerate(self._counts(tokens), start=1):
            correct = sum(min(count, references.most.get(ngram, 0)) for ngram, count in counts.items())
            product *= (correct + _TINY) / (max(0, length - n + 1) + _SMALL)
        score = product ** (1.0 / self.n)
        _, closest = min((abs(own - length), own) for own in references.lengths)
        ratio = (length + _TINY) / (closest + _SMALL)
        return score * math.exp(1 - 1 / ratio) if ratio < 1 else score

    def _counts(self, tokens: Sequence[str]) -> list[Counter[tuple[str, ...]]]:
        return [Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in range(1, self.n + 1)]
