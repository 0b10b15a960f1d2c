"""Words said twice in a row: "a a dog"."""

import re

from rlcap.evaluation.grammar.checker import Checker

# What human captions double on purpose: all such words of Flickr8k, COCO val2017, MSR-VTT and IIW's long captions, but
# for names. "that that" and "had had", which grammar would allow, are in none of them.
DOUBLED_ON_PURPOSE = frozenset({"very", "many", "far", "ok", "ring", "coo", "chomp", "yo", "nae", "nay"})

# With a comma or a hyphen between them, two words are no repetition.
_TWICE = re.compile(r"(?<![\w'’-])([^\W\d_][\w'’]*)\s+\1(?![\w'’-])", re.IGNORECASE)


def repeated_word_errors(caption: str) -> list[str]:
    """Each word that stands twice in a row, as "a a", but for DOUBLED_ON_PURPOSE; letter case does not matter."""
    words = (match.group(1).lower() for match in _TWICE.finditer(caption))
    return [f"{word} {word}" for word in words if word not in DOUBLED_ON_PURPOSE]


REPEATED_WORD = Checker(
    name="repeated_word",
    measure="repeated_word_rate",
    text="percent of captions with a word twice in a row, words that people double on purpose apart",
    errors=repeated_word_errors,
)
