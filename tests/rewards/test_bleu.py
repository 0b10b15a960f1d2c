"""Sentence BLEU against pycocoevalcap."""

import json
import math
from pathlib import Path

import pytest

from rewards import ptb
from rewards.bleu import Bleu


def test_every_caption_scores_as_in_pycocoevalcap(shared: Path) -> None:
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer").BleuScorer(n=4)
    folder = shared / "data/coco_karpathy_test"
    every = json.loads((folder / "m2_transformer_captions.json").read_text())
    references = json.loads((folder / "references.json").read_text())
    ids = list(every)[:500]
    captions = ["", "dog", "a a a a a a a a a a a a a a a", *(every[i] for i in ids[3:])]
    columns = {"references": [references[i] for i in ids], "image_id": ids}
    for caption, own in zip(captions, columns["references"], strict=True):
        scorer += (" ".join(ptb.tokenize(caption)), [" ".join(ptb.tokenize(r)) for r in own])
    _, published = scorer.compute_score(option="closest")
    for n in (1, 2, 3, 4):
        scores = Bleu(n=n)(captions, **columns)
        assert max(abs(a - b) for a, b in zip(scores, published[n - 1], strict=True)) < 1e-9


def test_closed_forms() -> None:
    columns = {"references": [["a dog runs on grass"]] * 2, "image_id": ["x"] * 2}
    same, short = Bleu()(["a dog runs on grass", "a dog runs on"], **columns)
    assert same == pytest.approx(1.0, abs=1e-8)
    assert short == pytest.approx(math.exp(1 - 5 / 4), abs=1e-8)


def test_only_lengths_one_to_four() -> None:
    with pytest.raises(ValueError, match="n is 5; give 1, 2, 3 or 4"):
        Bleu(n=5)


def test_a_picture_without_references_is_named() -> None:
    with pytest.raises(ValueError, match="bleu: the picture 'x' has no references"):
        Bleu()(["a dog"], references=[[]], image_id=["x"])
