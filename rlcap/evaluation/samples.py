"""The cheap measures of the captions that training samples, named as in the logs."""

from collections.abc import Sequence

from rewards.ptb import tokenize
from rlcap.evaluation.grammar import CHECKERS, Checker, error_rate
from rlcap.evaluation.metrics import warn_once
from rlcap.evaluation.repetition import ORDERS, repetition_measures


def sample_checkers(names: Sequence[str] | None = None) -> list[Checker]:
    """The named grammar checkers; None: those that are quick, as far as they can be used here.

    Raises ValueError where a named one cannot be used.
    """
    if names is None:
        return [checker for checker in CHECKERS.values() if checker.in_samples and checker.missing() is None]
    chosen = [CHECKERS[name] for name in names]
    for checker in chosen:
        if (reason := checker.missing()) is not None:
            raise ValueError(f"sample_checkers: {checker.name} cannot be used: {reason}")
    return chosen


def sample_measures(captions: Sequence[str], checkers: Sequence[Checker]) -> dict[str, float]:
    """Repetition and grammar of C sampled captions (plain text), for every logging step.

    - `repetition/rep_<n>`, n = 1..4: mean repeated n-grams a caption (`rep_<n>_count` of `rlcap evaluate`);
    - `grammar/<measure>` of each checker: percent of captions in which it finds something; of more than its
      `most_samples` captions that many are checked, evenly spaced. One that fails is left out, and said once.

    Raises ValueError where there is no caption.
    """
    repetition = repetition_measures([tokenize(caption) for caption in captions])
    measures = {f"repetition/rep_{n}": repetition[f"rep_{n}_count"] for n in ORDERS}
    for checker in checkers:
        try:
            measures[f"grammar/{checker.measure}"] = error_rate(checker, captions, at_most=checker.most_samples)
        except RuntimeError as error:
            warn_once(f"{checker.measure} is not among the measures of the samples: {error}")
    return measures
