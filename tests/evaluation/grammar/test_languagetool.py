"""LanguageTool by its protocol, against a small server that speaks it; the real one is not to be had in tests."""

import sys
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import languagetool_stand_in
import pytest

from rlcap.evaluation import evaluate_captions, metrics, score_captions
from rlcap.evaluation.grammar import LANGUAGETOOL, error_rate, languagetool, languagetool_server
from rlcap.evaluation.samples import sample_checkers, sample_measures

pytest.importorskip("language_tool_python", reason="LanguageTool is optional: pip install 'rlcap[grammar]'")

PREDICTIONS = {"1": "they is here", "2": "a dog in the snow", "3": "a a dog"}
REFERENCES = {"1": ["they are here"], "2": ["a dog"], "3": ["a dog"]}


@pytest.fixture(autouse=True)
def _no_connection_from_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(languagetool_server.SETTING, raising=False)
    monkeypatch.setenv("LTP_PATH", str(tmp_path / "copies"))  # where language-tool-python keeps what it downloads
    languagetool._client.cache_clear()
    metrics.warn_once.cache_clear()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), languagetool_stand_in.Handler)
    Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def address(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's address, which the environment names."""
    name = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv(languagetool_server.SETTING, name)
    return name


def test_grammar_counts_and_form_does_not(address: str) -> None:
    assert LANGUAGETOOL.missing() is None
    assert LANGUAGETOOL.errors("they is here .") == ["THEY_IS: They is"]
    assert LANGUAGETOOL.errors("a girl in a apron") == ["EN_A_VS_AN: a"]
    assert LANGUAGETOOL.errors("a dog 's ball ball") == ["ENGLISH_WORD_REPEAT_RULE: ball ball"]
    assert LANGUAGETOOL.errors("a racquett at this moment in time") == []
    assert LANGUAGETOOL.errors(" . ") == []
    assert error_rate(LANGUAGETOOL, ["here they is", "a dog", "the the dog", "a dog"]) == 50


@pytest.mark.parametrize("ending", ["", "/", "/v2", "/v2/"])
def test_the_address_may_be_written_in_all_these_ways(ending: str, address: str, monkeypatch) -> None:
    monkeypatch.setenv(languagetool_server.SETTING, address + ending)
    assert LANGUAGETOOL.missing() is None


def test_evaluation_has_it_where_its_address_is_set(address: str) -> None:
    evaluation = score_captions(PREDICTIONS, REFERENCES, java=False, metrics=["languagetool"])
    assert evaluation.metrics == {"languagetool_error_rate": pytest.approx(200 / 3), "captions": 3}
    predictions = PREDICTIONS | {"2": "a dog in a orange hat"}
    evaluation = score_captions(predictions, REFERENCES, java=False)
    assert evaluation.metrics["languagetool_error_rate"] == 100
    assert evaluation.per_caption["2"]["languagetool_errors"] == ["EN_A_VS_AN: a"]
    assert evaluation.notes == []


def test_without_an_address_it_is_not_asked_and_not_missed() -> None:
    evaluation = score_captions(PREDICTIONS, REFERENCES, java=False)
    assert "languagetool_error_rate" not in evaluation.metrics
    assert evaluation.notes == []


def test_named_without_an_address_or_a_copy_it_says_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"languagetool_error_rate cannot be computed: .*set RLCAP_LANGUAGETOOL to .*or"
    ):
        score_captions(PREDICTIONS, REFERENCES, java=False, metrics=["languagetool"])
    with pytest.raises(ValueError, match="sample_checkers: languagetool cannot be used: there is no LanguageTool"):
        sample_checkers(["languagetool"])


@pytest.mark.parametrize("elsewhere", ["http://127.0.0.1:1", "http://127.0.0.1:{port}/wiki/"])
def test_where_nothing_or_another_service_answers_it_is_left_out_with_one_message(
    elsewhere: str, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = elsewhere.format(port=server.server_port)
    monkeypatch.setenv(languagetool_server.SETTING, place)
    for _ in range(3):
        assert "languagetool_error_rate" not in evaluate_captions(PREDICTIONS, REFERENCES, java=False)
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(f"languagetool_error_rate is not among the results: no LanguageTool answers at {place}")
    with pytest.raises(ValueError, match="cannot be computed: no LanguageTool answers at"):
        score_captions(PREDICTIONS, REFERENCES, java=False, metrics=["languagetool"])


def test_a_server_that_goes_away_or_fails_is_said_once_and_ends_nothing(
    address: str, server: ThreadingHTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    checkers = sample_checkers(["languagetool", "bad_ending"])
    assert sample_measures(["a dog", "a a dog in in it"], checkers)["grammar/languagetool_error_rate"] == 50
    with pytest.raises(RuntimeError, match="too many requests"):
        LANGUAGETOOL.errors("overload")
    server.shutdown()
    server.server_close()
    for _ in range(2):
        measures = sample_measures(["a dog", "a a dog on"], checkers)
        assert "grammar/languagetool_error_rate" not in measures
        assert measures["grammar/bad_ending_rate"] == 50
        assert "languagetool_error_rate" not in evaluate_captions(PREDICTIONS, REFERENCES, java=False)
    samples, evaluated = [record.message for record in caplog.records]
    assert samples.startswith(
        f"languagetool_error_rate is not among the measures of the samples: LanguageTool at {address}"
    )
    assert evaluated.startswith(f"languagetool_error_rate is not among the results: LanguageTool at {address}")


def test_samples_of_training_have_it_only_where_it_is_named(address: str) -> None:
    assert "languagetool" not in [checker.name for checker in sample_checkers()]
    assert [checker.name for checker in sample_checkers(["languagetool"])] == ["languagetool"]


class TestLocalCopy:
    """A copy on disk: what is started is a program in place of Java, with the arguments that Java would get."""

    @pytest.fixture(autouse=True)
    def _copy(self, tmp_path: Path) -> None:
        folder = tmp_path / "copies" / "LanguageTool-6.8"
        folder.mkdir(parents=True)
        (folder / "languagetool-server.jar").touch()

    def java(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        script = tmp_path / "java"
        script.write_text(f"#!/bin/sh\n{program}\n")
        script.chmod(0o755)
        monkeypatch.setattr(languagetool_server, "find_java", lambda: script)

    def test_is_started(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.java(tmp_path, monkeypatch, f'exec "{sys.executable}" "{languagetool_stand_in.__file__}" "$@"')
        started = []
        monkeypatch.setattr(languagetool_server.atexit, "register", started.append)
        monkeypatch.setenv(languagetool_server.SETTING, languagetool_server.LOCAL)
        assert LANGUAGETOOL.missing() is None
        assert LANGUAGETOOL.errors("a dog") == []
        assert LANGUAGETOOL.errors("on the the grass") == ["ENGLISH_WORD_REPEAT_RULE: the the"]
        (end,) = started
        end()
        with pytest.raises(RuntimeError, match=r"LanguageTool at http://127\.0\.0\.1:\d+/v2/ failed"):
            LANGUAGETOOL.errors("a dog")

    def test_that_ends_says_why(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.java(tmp_path, monkeypatch, "echo Unsupported class file version >&2; exit 3")
        assert "ended with code 3: Unsupported class file version" in str(LANGUAGETOOL.missing())

    def test_that_never_answers_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.java(tmp_path, monkeypatch, "exec sleep 60")
        monkeypatch.setattr(languagetool_server, "START_SECONDS", 0.5)
        assert "did not answer within 0.5 s" in str(LANGUAGETOOL.missing())

    def test_that_is_not_whole_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "copies" / "LanguageTool-6.8" / "languagetool-server.jar").unlink()
        assert "the copy of LanguageTool is not whole" in str(LANGUAGETOOL.missing())

    def test_needs_java(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(languagetool_server, "find_java", lambda: None)
        assert "LanguageTool needs Java 17" in str(LANGUAGETOOL.missing())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "language_tool_python", None)
    assert "pip install 'rlcap[grammar]'" in str(LANGUAGETOOL.missing())
