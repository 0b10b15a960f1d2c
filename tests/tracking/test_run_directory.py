"""run.json and metrics.jsonl: what is written is read back, and a kill while writing costs one line at most."""

import json
import math
from pathlib import Path

import pytest

from rlcap.tracking import run_directory


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "metrics.jsonl"
    for step in range(1, 6):
        run_directory.append_metrics(
            path, step, {"reward": 0.1 * step, "rewards/cider-d/mean": 1 / 3, "text": "é\u2028"}
        )
    return path


def test_floats_read_back_as_the_same_bits(metrics: Path) -> None:
    records = run_directory.read_metrics(metrics)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert [record["reward"] for record in records] == [0.1 * step for step in range(1, 6)]
    assert metrics.read_text().startswith('{"reward": 0.1, "rewards/cider-d/mean": 0.3333333333333333, "step": 1')


def test_what_json_has_not_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run_directory.append_metrics(path, 0, {"kl": math.nan, "loss": -math.inf})
    assert path.read_text() == '{"kl": null, "loss": null, "step": 0}\n'


def test_truncation_drops_later_steps(metrics: Path) -> None:
    run_directory.truncate_metrics(metrics, 3)
    assert [record["step"] for record in run_directory.read_metrics(metrics)] == [1, 2, 3]
    run_directory.truncate_metrics(metrics, -1)
    assert metrics.read_text() == ""


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_half_written_line_is_dropped(metrics: Path, cut: int) -> None:
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-cut])
    assert len(run_directory.read_metrics(metrics)) == 4
    run_directory.truncate_metrics(metrics, 5)
    assert metrics.read_bytes() == b"".join(whole.splitlines(keepends=True)[:4])


@pytest.mark.parametrize("half", [b'{"rew', b'{"step": 6, "x": "' + b"y" * 10_000])
def test_appending_after_a_half_written_line(metrics: Path, half: bytes) -> None:
    with metrics.open("ab") as file:
        file.write(half)
    run_directory.append_metrics(metrics, 6, {"reward": 1.0})
    assert [record["step"] for record in run_directory.read_metrics(metrics)] == [1, 2, 3, 4, 5, 6]


def test_appending_to_nothing_but_a_half_written_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"rew')
    run_directory.append_metrics(path, 1, {})
    assert path.read_text() == '{"step": 1}\n'


def test_a_missing_file_stays_missing(tmp_path: Path) -> None:
    run_directory.truncate_metrics(tmp_path / "metrics.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_no_json_is_named(metrics: Path) -> None:
    lines = metrics.read_text().split("\n")
    metrics.write_text("\n".join([lines[0], "garbage", *lines[1:]]))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is not JSON"):
        run_directory.truncate_metrics(metrics, 3)


def test_run_file(tmp_path: Path) -> None:
    assert run_directory.read_run(tmp_path) is None
    settings = {"rewards": ["cider-d"], "learning_rate": 5e-6}
    run_directory.write_run(tmp_path, command="scst", settings=settings, seed=7)
    run_directory.write_run(tmp_path, command="scst", settings=settings, seed=7)
    run = run_directory.read_run(tmp_path)
    assert run is not None
    assert run["settings"] == settings
    assert (run["command"], run["seed"], len(run["starts"])) == ("scst", 7, 2)
    assert run["versions"]["torch"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    run_directory.write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        run_directory.write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ('{"a": 1}', "was not written by rlcap")])
def test_another_programs_run_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        run_directory.read_run(tmp_path)


def test_git_state_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert run_directory.git_state() is None
