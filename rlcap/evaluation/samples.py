"""The cheap measures of the captions that training samples, named as in the logs."""

from collections.abc import Sequence

from rewards.ptb import tokenize
from rlcap.evaluation.grammar import bad_ending_rate, harper_error_rate, harper_installed
from rlcap.evaluation.repetition import ORDERS, repetition_measures


def sample_measures(captions: Sequence[str], *, harper_at_most: int = 80) -> dict[str, float]:
    """Repetition and grammar of C sampled captions (plain text), for every logging step.

    - `repetition/rep_<n>`, n = 1..4: mean repeated n-grams a caption (`rep_<n>_count` of `rlcap evaluate`);
    - `grammar/bad_ending_rate`: percent of captions that end in an article, a preposition or a form of "be";
    - `grammar/harper_error_rate`: percent with a grammar error, only where harper-py is installed; of more than
      `harper_at_most` captions that many are checked, evenly spaced (0: none, and the key is left out).

    Raises ValueError where there is no caption.
    """
    tokens = [tokenize(caption) for caption in captions]
    repetition = repetition_measures(tokens)
    measures = {f"repetition/rep_{n}": repetition[f"rep_{n}_count"] for n in ORDERS}
    measures["grammar/bad_ending_rate"] = bad_ending_rate(tokens)
    if harper_at_most and harper_installed():
        measures["grammar/harper_error_rate"] = harper_error_rate(captions, at_most=harper_at_most)
    return measures
