"""Counting n-grams over documents, and the file that keeps the counts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rewards import document_frequencies
from rewards.document_frequencies import DocumentFrequencies, build, load

CORPUS = {"1": ["a dog", "a dog runs"], "2": ["a cat"], "3": ["the cat runs"]}


def test_counts_by_picture_and_by_caption() -> None:
    by_picture = build(CORPUS, eos=False)
    assert by_picture.documents == 3
    assert by_picture.counts == {("a",): 2, ("cat",): 2, ("runs",): 2}
    by_caption = build(CORPUS, per="caption", eos=False)
    assert by_caption.documents == 4
    assert by_caption.counts == {("a",): 3, ("dog",): 2, ("a", "dog"): 2, ("runs",): 2, ("cat",): 2}


def test_the_end_token_is_in_every_document() -> None:
    counted = build(CORPUS)
    assert counted.counts["<eos>",] == 3
    assert counted.inverse()["<eos>",] == 0.0
    assert counted.counts["runs", "<eos>"] == 2


def test_inverse_frequencies() -> None:
    inverse = build(CORPUS, eos=False).inverse()
    assert inverse["a",] == pytest.approx(math.log(3) - math.log(2))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    counted = build({**CORPUS, "4": ["caf\u00e9 a cat", "a cat"]}, per="caption")
    path = tmp_path / "new" / "df.npz"
    counted.save(path)
    assert load(path) == DocumentFrequencies(counted.documents, counted.counts, "caption", True, str(path))
    assert [file.name for file in path.parent.iterdir()] == ["df.npz"]


def test_a_table_without_common_ngrams_is_saved_too(tmp_path: Path) -> None:
    counted = build({"1": ["x"], "2": ["y"]}, eos=False)
    counted.save(tmp_path / "df.npz")
    assert load(tmp_path / "df.npz").counts == {}


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "df.npz"
    build(CORPUS).save(path)
    before = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(document_frequencies.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        build(CORPUS, eos=False).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_none_of_ours_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.npz"):
        load(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.npz was not written by"):
        load(tmp_path / "text.npz")
    pickled = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "pickle.npz", header=pickled, ngrams=pickled, counts=pickled)
    with pytest.raises(ValueError, match=r"pickle\.npz was not written by"):
        load(tmp_path / "pickle.npz")
    header = np.frombuffer(json.dumps({"format": "else"}).encode(), dtype=np.uint8)
    np.savez(tmp_path / "other.npz", header=header, ngrams=header, counts=np.array([1]))
    with pytest.raises(ValueError, match="has the format 'else'"):
        load(tmp_path / "other.npz")
    build(CORPUS).save(tmp_path / "old.npz")
    with np.load(tmp_path / "old.npz") as arrays:
        parts = dict(arrays)
    old = json.loads(parts["header"].tobytes()) | {"tokenizer": "another"}
    parts["header"] = np.frombuffer(json.dumps(old).encode(), dtype=np.uint8)
    np.savez(tmp_path / "old.npz", **parts)
    with pytest.raises(ValueError, match="counted with the tokeniser 'another'"):
        load(tmp_path / "old.npz")
