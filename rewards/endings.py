"""Captions that break off: endings in an article, a preposition or a form of "be"."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards import ptb
from rewards.completions import score_distinct, texts

# self-critical.pytorch, captioning/utils/eval_utils.py, `bad_endings` (the list that counts; the one that strips
# endings in misc.py is another).
BAD_ENDINGS = frozenset(
    "a an the in for at of with before after on upon near to is are am".split()  # noqa: SIM905
)


def is_bad_ending(tokens: Sequence[str]) -> bool:
    """True where the last token is in BAD_ENDINGS; False for an empty caption, which has no ending."""
    return bool(tokens) and tokens[-1] in BAD_ENDINGS


class BadEnding:
    """Reward: -1 where a caption ends in one of BAD_ENDINGS (its PTB tokens, so a period hides nothing), else 0."""

    __name__ = "bad-ending"
    needs: frozenset[str] = frozenset()
    uses_corpus = False

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """One value a caption; other columns are ignored."""
        captions = texts(completions, self.__name__)
        return score_distinct(captions, lambda caption: -1.0 if is_bad_ending(ptb.tokenize(caption)) else 0.0)

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        return {"name": self.__name__, "endings": sorted(BAD_ENDINGS), "tokenizer": ptb.VERSION}
