"""All metrics together: the published numbers of M2 Transformer, the notes, and what users get wrong."""

import json
from pathlib import Path

import pytest

from rlcap.evaluation import METRICS, evaluate_captions, java, metrics, score_captions

pytest.importorskip("pycocoevalcap", reason="the COCO metrics are optional: pip install 'rlcap[coco]'")

PREDICTIONS = {"1": "A dog runs on grass.", "2": "a red bus on a", "3": ""}
REFERENCES = {
    "1": ["A dog runs on the grass.", "a brown dog runs"],
    "2": ["A red bus on a street.", "the bus"],
    "3": ["two cats"],
}


def _m2(shared: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    folder = shared / "data/coco_karpathy_test"
    return tuple(
        json.loads((folder / f"{name}.json").read_text()) for name in ("m2_transformer_captions", "references")
    )


@pytest.mark.slow
def test_m2_transformer_captions(shared: Path) -> None:
    """The numbers that its authors and the survey print, with our tokeniser."""
    families = ["bleu", "rouge_l", "cider", "bad_ending", "diversity"] + (["meteor"] if java.find_java() else [])
    result = evaluate_captions(*_m2(shared), metrics=families)
    assert round(result["bleu_1"], 2) == 80.76
    assert round(result["bleu_4"], 2) == 39.09
    assert round(result["rouge_l"], 2) == 58.64
    assert round(result["cider"], 2) == 131.20
    assert round(result["bad_ending_rate"], 2) == 34.36
    assert round(result["length"], 2) == 9.72
    assert result["vocabulary"] == 847
    if "meteor" in families:
        assert round(result["meteor"], 2) == 29.19


def test_m2_transformer_captions_without_java(shared: Path) -> None:
    predictions, references = _m2(shared)
    ids = list(predictions)[:500]
    result = evaluate_captions(
        {key: predictions[key] for key in ids}, {key: references[key] for key in ids}, java=False, metrics=["cider"]
    )
    assert result.keys() == {"cider", "captions"}
    assert 100 < result["cider"] < 140


def test_every_key_is_documented_and_ordered() -> None:
    evaluation = score_captions(PREDICTIONS, REFERENCES, java=False, training_captions=["a dog runs on grass", "x"])
    assert list(evaluation.metrics) == [key for key in METRICS if key in evaluation.metrics]
    assert {"bleu_4", "rouge_l", "cider", "rep_4_share", "novel_share", "distinct_2"} <= evaluation.metrics.keys()
    assert evaluation.metrics["captions"] == 3
    assert evaluation.metrics["bad_ending_rate"] == pytest.approx(100 / 3)
    assert evaluation.metrics["novel_share"] == pytest.approx(200 / 3)
    assert any("1 of 3 captions are empty" in note for note in evaluation.notes)
    assert not any("meteor" in note for note in evaluation.notes)  # to do without Java was asked for


def test_per_caption() -> None:
    families = ["rouge_l", "repetition", "bad_ending"]
    rows = score_captions(PREDICTIONS, REFERENCES, java=False, metrics=families).per_caption
    assert rows["2"]["bad_ending_errors"] == ["a"]
    assert rows["1"]["bad_ending_errors"] == []
    assert "repeated_word_errors" not in rows["1"]
    assert rows["2"]["words"] == 5
    assert rows["2"]["rep_1_count"] == 1
    assert rows["3"]["rouge_l"] == 0
    assert "cider" not in rows["1"]


def test_without_java_meteor_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    metrics.warn_once.cache_clear()
    monkeypatch.setattr(metrics, "find_java", lambda: None)
    result = evaluate_captions(PREDICTIONS, REFERENCES)
    assert "meteor" not in result
    assert "cider" in result
    assert "meteor is not among the results: no Java found" in caplog.text
    with pytest.raises(ValueError, match="meteor cannot be computed: no Java found"):
        evaluate_captions(PREDICTIONS, REFERENCES, metrics=["meteor"])
    with pytest.raises(ValueError, match="java=True"):
        evaluate_captions(PREDICTIONS, REFERENCES, java=True)


def test_different_pictures_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 picture \(9\) without references, 2 pictures \(2, 3\) without a pred"):
        evaluate_captions({"1": "a dog", "9": "a cat"}, REFERENCES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["ciderr"]}, "no metric 'ciderr'.*cider"),
        ({"metrics": ["novel_share"]}, "novel_share cannot be computed: no training captions"),
        ({"metrics": ["meteor"], "java": False}, "Java is switched off"),
    ],
)
def test_what_cannot_be_computed_is_an_error_where_it_was_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_captions(PREDICTIONS, REFERENCES, **arguments)


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no caption"):
        evaluate_captions({}, {})
    with pytest.raises(ValueError, match="empty list of references"):
        evaluate_captions({"1": "a"}, {"1": []})


def test_missing_pycocoevalcap_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(ValueError, match=r"pip install 'rlcap\[coco\]'"):
        evaluate_captions(PREDICTIONS, REFERENCES, java=False, metrics=["cider"])
