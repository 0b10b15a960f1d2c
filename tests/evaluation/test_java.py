"""METEOR's Java program: its scores, and that it is gone afterwards, whatever happened."""

import os
import stat
from pathlib import Path

import pytest

from rlcap.evaluation import java

pytest.importorskip("pycocoevalcap", reason="the COCO metrics are optional: pip install 'rlcap[coco]'")


@pytest.fixture(scope="module")
def runtime() -> Path:
    found = java.find_java()
    if found is None:
        pytest.skip("needs Java: pip install 'rlcap[coco]'")
    return found


@pytest.mark.slow  # 6 to 12 s: METEOR reads its paraphrases
def test_meteor(runtime: Path) -> None:
    hypotheses = ["a dog runs on grass", "", "a red ||| bus\nstops"]
    references = [["a dog runs on grass", "dogs"], ["a cat"], ["a red bus stops", "café"]]
    corpus, each = java.meteor(hypotheses, references, runtime)
    assert each[0] == pytest.approx(1.0)
    assert each[1] == 0
    assert each[2] == pytest.approx(1.0)  # the separator of the protocol inside a caption does not break it
    assert 0 < corpus < 1


def _program(folder: Path, script: str) -> Path:
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_program_that_dies_is_told_with_its_words(tmp_path: Path) -> None:
    dies = _program(tmp_path, "echo no memory >&2; exit 3")
    with pytest.raises(RuntimeError, match=r"code 3.*no memory"):
        java.meteor(["a dog"] * 3, [["a dog"]] * 3, dies)


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    hangs = _program(tmp_path, f"echo $$ > {pid}; exec sleep 60")
    monkeypatch.setattr(java, "START_SECONDS", 1)
    with pytest.raises(RuntimeError, match="time limit 2 s"):
        java.meteor(["a dog"], [["a dog"]], hangs)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_answers_that_are_no_scores(tmp_path: Path) -> None:
    talks = _program(tmp_path, "while read line; do echo hello; echo hello; done")
    with pytest.raises(RuntimeError, match="where scores were expected"):
        java.meteor(["a dog"], [["a dog"]], talks)


def test_spice_without_its_jars_says_so(runtime: Path) -> None:
    if java.spice_jar() is not None:
        score, each = java.spice(["a dog runs"], [["a dog runs"]], runtime)
        assert score == each[0] == pytest.approx(1.0)
    else:
        with pytest.raises(RuntimeError, match=r"stanford-corenlp-3\.6\.0\.jar"):
            java.spice(["a dog"], [["a dog"]], runtime)
