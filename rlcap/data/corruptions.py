"""Captions made ungrammatical: the negatives of CLIP-Caption-Reward (Cho et al. 2022), on words instead of BPE tokens.

Each is a pure function of the words and of a `random.Random`; all results differ from what went in.
"""

import random
from collections.abc import Callable, Sequence

MOST = 3  # words of an n-gram, copies of it, words that are inserted or swapped

Corruption = Callable[[Sequence[str], random.Random, Sequence[str]], list[str]]


def repeat(words: Sequence[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """An n-gram of 1 to 3 words, copied to 1 to 3 random places."""
    copied = _ngram(words, rng, len(words))
    result = list(words)
    for _ in range(rng.randint(1, MOST)):
        at = rng.randint(0, len(result))
        result[at:at] = words[copied]
    return result


def remove(words: Sequence[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """Without an n-gram of 1 to 3 words; at least one word stays."""
    result = list(words)
    del result[_ngram(words, rng, len(words) - 1)]
    return result


def insert(words: Sequence[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """1 to 3 random words of the vocabulary put in, never at the end."""
    result = list(words)
    for _ in range(rng.randint(1, MOST)):
        result.insert(rng.randrange(len(result)), rng.choice(vocabulary))
    return result


def swap(words: Sequence[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """1 to 3 words replaced by random other words of the vocabulary."""
    result = list(words)
    for at in rng.sample(range(len(words)), rng.randint(1, min(MOST, len(words)))):
        while result[at] == words[at]:
            result[at] = rng.choice(vocabulary)
    return result


def shuffle(words: Sequence[str], rng: random.Random, vocabulary: Sequence[str]) -> list[str]:
    """All words in a random other order."""
    result = list(words)
    while result == list(words):
        rng.shuffle(result)
    return result


CORRUPTIONS: dict[str, Corruption] = {
    "repeat": repeat,
    "remove": remove,
    "insert": insert,
    "swap": swap,
    "shuffle": shuffle,
}


def can_be_corrupted(words: Sequence[str]) -> bool:
    """Whether every kind of corruption changes these words: it takes two that differ."""
    return len(set(words)) > 1


def corrupt(words: Sequence[str], kind: str, seed: int | str, vocabulary: Sequence[str]) -> list[str]:
    """The words corrupted in one of CORRUPTIONS' ways: the same for the same arguments.

    Raises ValueError for an unknown kind, fewer than two different words, or a vocabulary of fewer than two.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"there is no corruption {kind!r}; there are {', '.join(CORRUPTIONS)}")
    if not can_be_corrupted(words):
        raise ValueError(f"{' '.join(words)!r} cannot be corrupted: it takes two different words")
    if len(set(vocabulary)) < 2:
        raise ValueError(f"words cannot be swapped with a vocabulary of {len(set(vocabulary))}")
    return CORRUPTIONS[kind](words, random.Random(seed), vocabulary)


def _ngram(words: Sequence[str], rng: random.Random, most: int) -> slice:
    """A random place of a random n-gram of 1 to 3 words, and of at most `most`."""
    n = rng.randint(1, min(MOST, most))
    start = rng.randint(0, len(words) - n)
    return slice(start, start + n)
