"""Harper, an offline checker in a wheel (harper-py), of whose findings only the grammatical ones count.

Harper reports everything that an editor would underline. On human captions most of it is no grammar error: of 4,000
references each of Flickr8k and COCO val2017, 8 % and 12 % have a lint of any kind, nearly all of it spelling ("grey",
"racquet"), compounds ("blue jacket" -> "bluejacket"), typing and style (Oxford comma). So `harper_error_rate`
  - sets the sentence first (capital, final period, no space before a comma or a clitic): tokenised lower-case captions
    and typed ones are judged alike;
  - counts only the kinds of COUNTED_KINDS and the rules of COUNTED_RULES, without those of FALSE_ALARMS.
What is left finds "a a", "an man", "is are", "they is"; it does not find "two man", "a dogs", "a man ride", nor broken
endings: a weak signal, one among others. Of 50 of the COCO references in which harper-py 0.2.0 found something, 47 were
wrong indeed ("a orange", "on it's head").
"""

from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import Any

from rlcap.evaluation.grammar.checker import Checker
from rlcap.evaluation.grammar.sentence import as_sentence

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


def harper_errors(caption: str) -> list[str]:
    """The grammar errors that Harper finds in one caption, each as `Rule: text`.

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


def _missing() -> str | None:
    return None if find_spec("harper") else "harper-py is not installed: pip install 'rlcap[grammar]'"


@cache
def _linter() -> Any:
    try:
        import harper
    except ImportError as error:
        raise ValueError(
            "harper_error_rate needs the grammar checker harper-py: pip install 'rlcap[grammar]'"
        ) from error
    return harper.Linter()  # loads its dictionary: about a second, once


HARPER = Checker(
    name="harper",
    measure="harper_error_rate",
    text="percent of captions with a grammar error by Harper (grammar kinds only)",
    errors=harper_errors,
    missing=_missing,
    most_samples=80,  # it checks some hundred captions a second
)
