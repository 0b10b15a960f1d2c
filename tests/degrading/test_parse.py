"""The parser: what it keeps together, and what is said where it is missing."""

import sys

import pytest

from rlcap.degrading.parse import load_parser, parsed


def test_words_with_hyphens_stay_whole(pipeline: str) -> None:
    doc = next(iter(parsed(load_parser(pipeline), ["A red-haired girl in a t-shirt , running ."])))
    assert [token.text for token in doc] == ["A", "red-haired", "girl", "in", "a", "t-shirt", ",", "running", "."]
    assert [doc[1].dep_, doc[5].tag_] == ["amod", "NN"]


def test_without_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ValueError, match=r"chains by rules need spaCy.*pip install 'rlcap\[chains\]'.*--degrader llm"):
        load_parser()


def test_without_the_pipeline(pipeline: str) -> None:
    with pytest.raises(ValueError, match=r"no pipeline 'nowhere'.*--parser"):
        load_parser("nowhere")
