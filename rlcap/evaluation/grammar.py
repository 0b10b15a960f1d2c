"""Grammar measures: captions that break off, and captions in which Harper, an offline checker, finds an error.

Harper reports everything that an editor would underline. On human captions most of it is no grammar error: of 4,000
references each of Flickr8k and COCO val2017, 8 % and 12 % have a lint of any kind, nearly all of it spelling ("grey",
"racquet"), compounds ("blue jacket" -> "bluejacket"), typing and style (Oxford comma). So `harper_error_rate`
  - sets the sentence first (capital, final period, no space before a comma or a clitic): tokenised lower-case captions
    and typed ones are judged alike;
  - counts only the kinds of COUNTED_KINDS and the rules of COUNTED_RULES, without those of FALSE_ALARMS.
What is left finds "a a", "an man", "is are", "they is"; it does not find "two man", "a dogs", "a man ride", nor broken
endings (those are `bad_ending_rate`): a weak signal, one among others. With harper-py 0.2.0 it is 0.35 % on the 40,450
references of Flickr8k and 1.19 % on the 25,014 of COCO val2017 (of 50 of those looked at, 47 were errors indeed: "a
orange", "on it's head"), and 0.12 % on M2 Transformer's captions of the COCO test pictures.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from threading import Lock
from typing import Any

from rewards.endings import is_bad_ending

COUNTED_KINDS = frozenset({"Agreement", "Grammar", "Repetition"})
COUNTED_RULES = frozenset({"AnA"})  # "a apron"; Harper files it under Miscellaneous
FALSE_ALARMS = frozenset(
    {
        "MassNouns",  # "each smiling", "a landing"
        "MissingDeterminer",  # "sitting on floor in waiting room": telegram style is usual in captions
        "QuantifierNumeralConflict",  # "next to a little one"
        "TheirToThere",  # "off to their right"
        "ThereIsAgreement",  # "there is graffiti"
        "WhomSubjectOfVerb",  # "one of whom has"
    }
)

_linting = Lock()  # a Linter refuses calls from two threads at once


def bad_ending_rate(captions: Sequence[Sequence[str]]) -> float:
    """Percent of C tokenised captions that end in one of `rewards.endings.BAD_ENDINGS`.

    Source: self-critical.pytorch, captioning/utils/eval_utils.py, `bad_count_rate` (there a share).
    Raises ValueError where there is no caption.
    """
    if not captions:
        raise ValueError("bad_ending_rate: there is no caption to measure")
    return 100 * sum(is_bad_ending(tokens) for tokens in captions) / len(captions)


def harper_installed() -> bool:
    """Whether `harper_error_rate` can be computed here (the optional package harper-py)."""
    return find_spec("harper") is not None


def harper_version() -> str:
    """The version of harper-py, on which the error rate depends."""
    return version("harper-py")


def harper_errors(caption: str) -> list[str]:
    """The grammar errors that Harper finds in one caption, each as `Rule: text`, empty where there is none.

    Raises ValueError where harper-py is not installed.
    """
    sentence = as_sentence(caption)
    if not sentence:
        return []
    with _linting:
        # dedup would let a spelling lint, which is not counted, hide a counted one at the same place
        found = _linter().organized_lints(sentence, language="plaintext", dedup=False)
    return [
        f"{rule}: {lint.problem_text}"
        for rule, lints in found.items()
        for lint in lints
        if rule not in FALSE_ALARMS and (lint.lint_kind in COUNTED_KINDS or rule in COUNTED_RULES)
    ]


def harper_error_rate(captions: Sequence[str], *, at_most: int | None = None) -> float:
    """Percent of captions (plain text) in which Harper finds at least one grammar error (see the module's text).

    Of more than `at_most` captions that many are checked, evenly spaced over the list, always the same ones.
    Raises ValueError where there is no caption or harper-py is not installed.
    """
    if not captions:
        raise ValueError("harper_error_rate: there is no caption to measure")
    if at_most is not None and at_most < 1:
        raise ValueError(f"harper_error_rate: at_most is {at_most}; at least one caption must be checked")
    checked = list(captions)
    if at_most is not None and len(checked) > at_most:
        checked = [checked[i * len(checked) // at_most] for i in range(at_most)]
    wrong = {caption: bool(harper_errors(caption)) for caption in set(checked)}
    return 100 * sum(wrong[caption] for caption in checked) / len(checked)


def as_sentence(caption: str) -> str:
    """The caption set as a sentence: one space between words, none before punctuation and clitics, capital, period."""
    text = " ".join(caption.split())
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"\s+('(?:s|re|ve|ll|d|m)|n't)\b", r"\1", text)
    text = text.rstrip(" .")
    return f"{text[0].upper()}{text[1:]}." if text else ""


@cache
def _linter() -> Any:
    try:
        import harper
    except ImportError as error:
        raise ValueError(
            "harper_error_rate needs the grammar checker harper-py: pip install 'rlcap[grammar]'"
        ) from error
    return harper.Linter()  # loads its dictionary: about a second, once
