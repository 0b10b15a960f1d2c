"""Repeated n-grams: the counts, and a reward against them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards import ptb
from rewards.completions import score_distinct, texts


def repeated_ngrams(tokens: Sequence[str], n: int) -> tuple[int, int]:
    """Counts the n-grams of one caption: (total - distinct, total).

    A caption shorter than n tokens has none: (0, 0). Raises ValueError where n < 1.
    """
    if n < 1:
        raise ValueError(f"repetition: n is {n}; an n-gram has at least one token, so give n >= 1")
    total = max(0, len(tokens) - n + 1)
    distinct = len({tuple(tokens[i : i + n]) for i in range(total)})
    return total - distinct, total


def repetition_share(tokens: Sequence[str], n: int) -> float:
    """The share of a caption's n-grams that repeat an earlier one, in [0, 1): 1 - distinct/total; 0 without n-grams."""
    repeated, total = repeated_ngrams(tokens, n)
    return repeated / total if total else 0.0


class Repetition:
    """Reward in (-1, 0]: minus the share of repeated n-grams, -(1 - distinct/total), over PTB tokens.

    The form is TRL's `_RepetitionPenalty` with max_penalty = -1, on caption tokens instead of whitespace words.
    Raises ValueError where n < 1.
    """

    __name__ = "repetition"
    needs: frozenset[str] = frozenset()
    uses_corpus = False

    def __init__(self, *, n: int = 4) -> None:
        repeated_ngrams((), n)
        self.n = n

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """One value a caption; other columns are ignored."""
        captions = texts(completions, self.__name__)
        return score_distinct(captions, lambda caption: 0.0 - repetition_share(ptb.tokenize(caption), self.n))

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        return {"name": self.__name__, "n": self.n, "tokenizer": ptb.VERSION, "definition": "-(1 - distinct/total)"}
