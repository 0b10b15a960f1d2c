"""Rep-n against closed forms and against the released captions of M2 Transformer."""

import json
from pathlib import Path

import pytest

from rewards.ptb import tokenize
from rlcap.evaluation.repetition import repetition_measures


def test_closed_forms() -> None:
    captions = [["a", "dog", "and", "a", "cat"], ["a", "a", "a", "a"], ["dog"], []]
    measures = repetition_measures(captions)
    assert measures["rep_1_count"] == (1 + 3 + 0 + 0) / 4
    assert measures["rep_1_percent"] == pytest.approx(100 * (1 / 5 + 3 / 4) / 4)
    assert measures["rep_1_share"] == 50
    assert measures["rep_2_count"] == 2 / 4  # "a a" three times
    assert measures["rep_2_percent"] == pytest.approx(100 * (2 / 3) / 4)
    assert measures["rep_3_count"] == 1 / 4
    assert measures["rep_4_count"] == measures["rep_4_percent"] == measures["rep_4_share"] == 0


def test_no_caption_is_an_error() -> None:
    with pytest.raises(ValueError, match="no caption"):
        repetition_measures([])


def test_m2_transformer_captions(shared: Path) -> None:
    captions = json.loads((shared / "data/coco_karpathy_test/m2_transformer_captions.json").read_text())
    measures = repetition_measures([tokenize(caption) for caption in captions.values()])
    counts = [round(measures[f"rep_{n}_count"], 4) for n in (1, 2, 3, 4)]
    percents = [round(measures[f"rep_{n}_percent"], digits) for n, digits in ((1, 2), (2, 3), (3, 3))]
    shares = [round(measures[f"rep_{n}_share"], 2) for n in (1, 2, 3, 4)]
    assert counts == [1.584, 0.0586, 0.0034, 0.0006]
    assert percents == [16.1, 0.641, 0.04]
    assert measures["rep_4_percent"] == pytest.approx(0.0075)
    assert shares == [89.18, 5.5, 0.28, 0.06]
