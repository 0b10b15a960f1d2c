"""BLEU, ROUGE-L and CIDEr of pycocoevalcap, in pure Python, on captions that are tokenised already."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Scores = tuple[float, list[float]]  # over the corpus, and of each caption


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[Scores]:
    """BLEU-1 to BLEU-4 (closest reference length) of C tokenised captions, in [0, 1].

    The corpus score comes from the summed n-gram counts, not from the captions' scores.
    """
    with _pycocoevalcap():
        from pycocoevalcap.bleu.bleu import Bleu
    corpus, each = Bleu(4).compute_score(*_items(hypotheses, references), verbose=0)
    return [(float(c), [float(value) for value in e]) for c, e in zip(corpus, each, strict=True)]


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """ROUGE-L (F with beta 1.2, best precision and best recall over the references), mean and of each; in [0, 1]."""
    with _pycocoevalcap():
        from pycocoevalcap.rouge.rouge import Rouge
    return _mean(Rouge().compute_score(*_items(hypotheses, references)))


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """What everybody prints as "CIDEr": CIDEr-D (clipped, Gaussian length penalty), mean and of each; in [0, 10].

    Document frequencies come from these references, one document a picture: a set of one picture scores 0.
    """
    if not any(reference.split() for group in references for reference in group):
        raise ValueError("CIDEr: no reference has a word in it")
    with _pycocoevalcap():
        from pycocoevalcap.cider.cider import Cider
    return _mean(Cider().compute_score(*_items(hypotheses, references)))


def _mean(scores: tuple[Any, Any]) -> Scores:
    return float(scores[0]), [float(value) for value in scores[1]]


def _items(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict, dict]:
    references_by_id = {i: list(group) for i, group in enumerate(references)}
    return references_by_id, {i: [hypothesis] for i, hypothesis in enumerate(hypotheses)}


@contextmanager
def _pycocoevalcap() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"BLEU, ROUGE-L and CIDEr need pycocoevalcap, which could not be imported ({error}): "
            "pip install 'rlcap[coco]'. Without it, name the metrics to compute: repetition, diversity, bad_ending."
        ) from error
