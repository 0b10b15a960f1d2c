"""Every layout of predictions and references comes to the same dictionaries, and what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlcap.evaluation.files import read_predictions, read_references, read_training_captions

CAPTIONS = {"7": "a dog", "8": ""}


def _write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", {"7": "a dog", "8": ""}),
        ("p.json", {"7": ["a dog"], "8": [""]}),
        ("p.json", [{"image_id": 7, "caption": "a dog"}, {"image_id": 8, "caption": ""}]),
        ("p.jsonl", '{"image_id": 7, "caption": "a dog"}\n\n{"image_id": "8", "caption": ""}\n'),
        ("p.json", '{"image_id": 7, "caption": "a dog"}\n{"image_id": 8, "caption": ""}\n'),
        ("p.json", '{\n "7": "a dog",\n "8": ""\n}'),
    ],
)
def test_predictions(tmp_path: Path, name: str, content: Any) -> None:
    assert read_predictions(_write(tmp_path / name, content)) == CAPTIONS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image_id": 7, "caption": "a"}, {"image_id": "7", "caption": "b"}], 'item 1: "7" has a caption already'),
        ('{"7": "a", "7": "b"}', "'7' is given twice"),
        ({"7": ["a", "b"]}, '"7" has 2 captions'),
        ({"7": 3}, '"7" must be a text'),
        ([["a"]], "item 0 must be an object"),
        ([{"image_id": 7}], "item 0 needs one of"),
        ([{"image_id": None, "caption": "a"}], '"image_id" must be a text or a whole number'),
        ({"images": []}, "must be id -> caption"),
        ("{", "is not JSON"),
        ({}, "has no captions"),
    ],
)
def test_wrong_predictions_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_predictions(_write(tmp_path / "p.json", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"p\.json: there is no such file"):
        read_predictions(tmp_path / "p.json")


KARPATHY = {
    "images": [
        {"filename": f"{split}.jpg", "split": split, "sentences": [{"raw": f"a {split} dog"}, {"raw": "a cat"}]}
        for split in ("train", "test")
    ]
}
COCO = {
    "images": [{"id": 3, "file_name": "3.jpg"}],
    "annotations": [{"image_id": 3, "caption": "a dog"}, {"image_id": 3, "caption": "a cat"}],
}


@pytest.mark.parametrize(
    ("name", "content", "split", "expected"),
    [
        ("r.json", {"3": ["a dog", "a cat"]}, None, {"3": ["a dog", "a cat"]}),
        ("r.json", COCO, None, {"3": ["a dog", "a cat"]}),
        ("r.json", KARPATHY, "test", {"test": ["a test dog", "a cat"]}),
        ("r.jsonl", '{"image_id": 3, "references": ["a dog", "a cat"]}', None, {"3": ["a dog", "a cat"]}),
        ("r.jsonl", '{"id": 3, "caption": "a dog"}\n{"id": 3, "caption": "a cat"}', None, {"3": ["a dog", "a cat"]}),
        ("r.jsonl", '{"image": "x.jpg", "references": ["a dog"], "split": "val"}', "val", {"x": ["a dog"]}),
    ],
)
def test_references(tmp_path: Path, name: str, content: Any, split: str | None, expected: dict) -> None:
    assert read_references(_write(tmp_path / name, content), split) == expected


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no splits"):
        read_references(_write(tmp_path / "r.json", {"3": ["a"]}), "test")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", "a dog\n\n a cat \n", ["a dog", "a cat"]),
        ("t.json", KARPATHY, ["a train dog", "a cat"]),
        ("t.json", {"3": ["a dog"], "4": ["a cat"]}, ["a dog", "a cat"]),
    ],
)
def test_training_captions(tmp_path: Path, name: str, content: Any, expected: list[str]) -> None:
    assert read_training_captions(_write(tmp_path / name, content)) == expected
