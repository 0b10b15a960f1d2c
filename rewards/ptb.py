"""Penn Treebank tokenisation of captions as the caption metrics do it, in Python.

pycocoevalcap runs the Stanford tokeniser (release 3.4.1, `-preserveLines -lowerCase`) in Java and then removes a fixed
list of punctuation; `tokenize` gives the tokens that its scorers see.
"""

import re
import string
from functools import lru_cache

from rewards.ptb_rules import ABBREVIATIONS, ALNUM, CASED_ABBREVIATIONS, MARK_RULES, WORD_RULES

VERSION = "ptb-3.4.1-python-1"  # recorded with scores: what a caption's tokens are

# Words, spaces and a final period: nine captions of ten, whose tokens are what stands between the spaces ...
_PLAIN = re.compile(r"[A-Za-z]+(?: +[A-Za-z]+)*( *)(\.?) *")
# ... unless one of these words is among them, or the period belongs to an abbreviation.
_SPLIT_WORDS = frozenset(["cannot", "gonna", "gotta", "lemme", "gimme", "wanna"])
_WITH_PERIOD = frozenset(word.lower() for word in (*ABBREVIATIONS, *CASED_ABBREVIATIONS, *string.ascii_lowercase))

_PLAIN_WORD = re.compile(r"[A-Za-z]+(?=[ \n]|, )")  # between spaces a word is a token, whatever else the caption holds
_WORD_START = re.compile(ALNUM)
_SPACE = re.compile(r"[\s\u200b\u200e\u200f\ufeff\x00\x7f]+|&nbsp;")


def tokenize(caption: str) -> list[str]:
    """The caption's lowercase Penn Treebank tokens without punctuation.

    Equal to `pycocoevalcap.tokenizer.ptbtokenizer.PTBTokenizer` followed by `str.split`, as its scorers do. That
    tokeniser reads on into the next caption's line and treats a single letter before a final period ("a sign that reads
    K.") by what it finds there; here another sentence always follows, which makes the period punctuation.
    """
    return list(_tokens(caption))


@lru_cache(maxsize=1 << 16)
def _tokens(caption: str) -> tuple[str, ...]:
    plain = _PLAIN.fullmatch(caption)
    if plain:
        tokens = caption.lower().replace(".", " ").split()
        period_on_word = plain[2] and not plain[1]
        if _SPLIT_WORDS.isdisjoint(tokens) and not (period_on_word and tokens[-1] in _WITH_PERIOD):
            return tuple(tokens)
    return tuple(_scan(caption))


def _scan(caption: str) -> list[str]:
    text = caption.replace("\u00ad", "").replace("\n", " ") + "\n"
    tokens: list[str] = []
    position, end = 0, len(text)
    while position < end:
        if space := _SPACE.match(text, position):
            position = space.end()
            continue
        plain = _PLAIN_WORD.match(text, position)
        if plain and plain[0].lower() not in _SPLIT_WORDS:
            tokens.append(plain[0])
            position = plain.end()
            continue
        longest, token, form = position, "", None
        for pattern, rule_form in WORD_RULES if _WORD_START.match(text, position) else MARK_RULES:
            match = pattern.match(text, position)
            if match and match.end() > longest:
                longest, token, form = match.end(), match[1], rule_form
        if form is None:  # a character of no class is left out, as the original does
            position += 1
            continue
        tokens.append(form(token))
        position += len(token)
    return " ".join(tokens).lower().split()
