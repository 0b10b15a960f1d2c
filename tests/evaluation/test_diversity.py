"""Diversity against closed forms."""

import pytest

from rlcap.evaluation.diversity import diversity_measures, novel_share


def test_closed_forms() -> None:
    measures = diversity_measures([["a", "dog", "runs"], ["a", "dog", "sits"], []])
    assert measures["length"] == 2
    assert measures["vocabulary"] == 4
    assert measures["distinct_1"] == 4 / 6
    assert measures["distinct_2"] == 3 / 6  # a dog, dog runs, dog sits; no bigram across captions


def test_captions_without_words() -> None:
    assert diversity_measures([[]]) == {"length": 0, "vocabulary": 0, "distinct_1": 0, "distinct_2": 0}


def test_novel_share() -> None:
    training = {("a", "dog"), ("a", "cat")}
    assert novel_share([["a", "dog"], ["a", "cow"], ["a"], ["a", "cat"]], training) == 50


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="no caption"):
        diversity_measures([])
    with pytest.raises(ValueError, match="0 of the training set"):
        novel_share([["a"]], set())
