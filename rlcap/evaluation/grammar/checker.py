"""What a grammar checker is, and the measure that follows from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Checker:
    """One way of telling that a caption is wrong.

    name: its family in `rlcap evaluate --metrics`, and its name in the key `sample_checkers`.
    measure: the key of the percentage of captions in which it finds something.
    text: what that percentage is, in a line.
    errors: what it finds in one caption (plain text), each in a few words; an empty list where it finds nothing.
        Raises RuntimeError where a program that it needs fails.
    missing: why it cannot be used here, or None; may start what it needs.
    wanted: whether an evaluation has it that names no metrics.
    in_samples: whether training has it at every logging step without being asked, where it can be used.
    most_samples: how many captions of a logging step it checks, evenly spaced; None: all.
    """

    name: str
    measure: str
    text: str
    errors: Callable[[str], list[str]]
    missing: Callable[[], str | None] = lambda: None
    wanted: Callable[[], bool] = lambda: True
    in_samples: bool = True
    most_samples: int | None = None


def error_rate(checker: Checker, captions: Sequence[str], *, at_most: int | None = None) -> float:
    """Percent of C captions (plain text) in which a checker finds at least one error.

    Of more than `at_most` captions that many are checked, evenly spaced over the list, always the same ones.
    Raises ValueError where there is no caption or the checker cannot be used, RuntimeError where it fails.
    """
    if not captions:
        raise ValueError(f"{checker.measure}: there is no caption to measure")
    if at_most is not None and at_most < 1:
        raise ValueError(f"{checker.measure}: at_most is {at_most}; at least one caption must be checked")
    checked = list(captions)
    if at_most is not None and len(checked) > at_most:
        checked = [checked[i * len(checked) // at_most] for i in range(at_most)]
    wrong = {caption: bool(checker.errors(caption)) for caption in set(checked)}
    return 100 * sum(wrong[caption] for caption in checked) / len(checked)
