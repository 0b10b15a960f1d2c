"""Penn Treebank tokenisation of captions, in Python."""

import re

VERSION = "ptb-1"


def tokenize(caption: str) -> list[str]:
    """Lowercase PTB tokens of a caption without punctuation."""
    return [
        token.replace("’", "'")
        for token in re.findall(r"n['’]t\b|['’](?:s|m|d|re|ve|ll)\b|\w+(?=n['’]t\b)|[\w-]+", caption.lower())
    ]
