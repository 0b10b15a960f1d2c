"""Captions that break off, as self-critical.pytorch counts them (captioning/utils/eval_utils.py, `bad_count_rate`)."""

from rewards.endings import is_bad_ending
from rewards.ptb import tokenize
from rlcap.evaluation.grammar.checker import Checker


def bad_ending_errors(caption: str) -> list[str]:
    """The last word, where it is one of `rewards.endings.BAD_ENDINGS` (of the PTB tokens: a period hides nothing)."""
    tokens = tokenize(caption)
    return [tokens[-1]] if is_bad_ending(tokens) else []


BAD_ENDING = Checker(
    name="bad_ending",
    measure="bad_ending_rate",
    text="percent of captions that end in an article, a preposition or a form of 'be'",
    errors=bad_ending_errors,
)
