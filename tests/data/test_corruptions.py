"""Broken captions: what each kind does, that it is a function of the seed, and what cannot be broken."""

from collections import Counter

import pytest

from rlcap.data.corruptions import CORRUPTIONS, can_be_corrupted, corrupt

WORDS = ["a", "brown", "dog", "runs", "across", "the", "green", "grass"]
VOCABULARY = ["cat", "blue", "dog", "sky"]


def is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("words", [WORDS, ["a", "dog"], ["a", "a", "b"]])
def test_each_kind_is_what_it_says(kind: str, words: list[str]) -> None:
    lengths = set()
    for seed in range(200):
        before = list(words)
        broken = corrupt(words, kind, seed, VOCABULARY)
        assert words == before != broken
        assert broken == corrupt(words, kind, seed, VOCABULARY)
        change = len(broken) - len(words)
        lengths.add(change)
        if kind == "repeat":
            assert is_subsequence(words, broken)
            assert set(broken) == set(words)
        elif kind == "remove":
            assert broken
            assert is_subsequence(broken, words)
        elif kind == "insert":
            assert is_subsequence(words, broken)
            assert broken[-1] == words[-1]
            assert set(broken) <= {*words, *VOCABULARY}
        elif kind == "swap":
            assert 1 <= sum(a != b for a, b in zip(broken, words, strict=True)) <= 3
        else:
            assert Counter(broken) == Counter(words)
    if words is WORDS:
        expected = {
            "repeat": {1, 2, 3, 4, 6, 9},
            "remove": {-1, -2, -3},
            "insert": {1, 2, 3},
            "swap": {0},
            "shuffle": {0},
        }
        assert lengths == expected[kind]


def test_what_cannot_be_broken() -> None:
    assert not can_be_corrupted(["a", "a"])
    with pytest.raises(ValueError, match="'a a' cannot be corrupted"):
        corrupt(["a", "a"], "shuffle", 0, VOCABULARY)
    with pytest.raises(ValueError, match="no corruption 'typo'; there are repeat, remove, insert, swap, shuffle"):
        corrupt(WORDS, "typo", 0, VOCABULARY)
    with pytest.raises(ValueError, match="vocabulary of 1"):
        corrupt(WORDS, "swap", 0, ["a"])
