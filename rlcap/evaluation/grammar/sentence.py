"""Captions as checkers of prose expect them."""

import re


def as_sentence(caption: str) -> str:
    """The caption set as a sentence: one space between words, none before punctuation and clitics, capital, period."""
    text = " ".join(caption.split())
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"\s+('(?:s|re|ve|ll|d|m)|n't)\b", r"\1", text)
    text = text.rstrip(" .")
    return f"{text[0].upper()}{text[1:]}." if text else ""
