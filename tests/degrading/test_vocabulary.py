"""Counts of a data set's words."""

from rlcap.degrading.vocabulary import Vocabulary, tokens


def test_counts() -> None:
    words = Vocabulary([["A red hat, a dog", "a dog runs"], ["the Dog"]], 3)
    assert words.words["a"] == 3
    assert words.words["dog"] == 3
    assert words.next["a", "dog"] == 2
    assert words.next["hat", "a"] == 0  # a comma between
    assert words.near["a", "hat"] == 1
    assert words.pictures["dog"] == 2
    assert tokens("A t-shirt, two-story .") == ["a", "t-shirt", ",", "two-story", "."]


def test_what_is_said_of_one_picture() -> None:
    pictures = [["a sofa", "a couch"], ["a sofa", "a couch"], ["a dog"], ["a cat"]]
    words = Vocabulary(pictures, 6)
    assert words.expected("sofa", "couch") == 1.0
    assert words.exchanged("sofa", "couch") == 2.0
    assert words.exchanged("dog", "cat") == 0.0
    assert words.exchanged("dog", "unknown") == 0.0
