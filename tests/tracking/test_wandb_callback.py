"""An offline W&B run through the callback, read back from its files."""

import math
from pathlib import Path
from typing import Any

import pytest
import wandb_reader
from PIL import Image
from transformers import TrainerControl, TrainerState, TrainingArguments

from rlcap.tracking import run_directory
from rlcap.tracking.wandb_callback import WandbCallback

wandb = pytest.importorskip("wandb", reason="W&B is optional: pip install 'rlcap[wandb]'")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_DIR", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "my-run"


def _records(step: int) -> list[dict[str, Any]]:
    return [
        {
            "image_id": f"{step}-{k}",
            "caption": f"<script>caption {k}</script>",
            "rewards": {"cider-d": step + k / 10, "clip-s": None if k else math.nan},
            "reward": step / 2,
            "advantage": -0.5,
            "greedy": "a dog" if k else None,
            "references": ["a dog runs", "the dog"],
        }
        for k in range(2)
    ]


def _train(run_dir: Path, steps: range, max_steps: int = 0) -> None:
    args = TrainingArguments(output_dir=str(run_dir), report_to="none")
    state, control = TrainerState(is_world_process_zero=True, max_steps=max_steps, logging_steps=1), TrainerControl()
    callback = WandbCallback(run_dir)
    callback.on_train_begin(args, state, control)
    for step in steps:
        state.global_step = step
        logs = {"reward": 0.1 * step, "rewards/cider-d/mean": step / 3, "time/sample": 0.25, "eval/cider": 30 + step}
        callback.on_log(args, state, control, logs=logs)
        callback.log_samples(step, _records(step), [Image.new("RGB", (300, 200)), None])
    callback.on_train_end(args, state, control)
    callback.on_log(args, state, control, logs={"late": 1.0})  # nothing is open any more


def test_scalars_and_table_of_several_steps(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _train(offline, range(10, 40, 10))
    (folder,) = offline.glob("wandb/offline-run-*")
    history = [row for row in wandb_reader.history(folder) if "reward" in row]
    assert [row["train/global_step"] for row in history] == [10, 20, 30]
    assert [row["reward"] for row in history] == pytest.approx([1.0, 2.0, 3.0])
    assert [row["rewards/cider-d/mean"] for row in history] == pytest.approx([10 / 3, 20 / 3, 10])
    assert [row["eval/cider"] for row in history] == [40, 50, 60]
    assert {row["time/sample"] for row in history} == {0.25}
    assert not any(name.startswith("train/") and name != "train/global_step" for row in history for name in row)

    columns, rows = wandb_reader.table(folder, "completions")
    assert columns[:5] == ["step", "split", "image_id", "image", "caption"]
    assert columns[5:] == ["rewards/cider-d", "rewards/clip-s", "reward", "advantage", "greedy", "references", "extra"]
    assert len(rows) == 6
    assert [row[0] for row in rows] == [10, 10, 20, 20, 30, 30]
    assert rows[0][1:6] == ["train", "10-0", "Image", "<script>caption 0</script>", 10.0]
    assert rows[0][6:] == [None, 5.0, -0.5, None, "a dog runs\nthe dog", None]
    assert rows[5][1:6] == ["train", "30-1", None, "<script>caption 1</script>", 30.1]
    assert "failed" not in capsys.readouterr().out


def test_the_page_has_one_axis_and_the_best_of_each_validation_metric(offline: Path) -> None:
    run_directory.write_run(offline, command="scst", settings={"rewards": ["cider-d", "a:b"]}, seed=0)
    _train(offline, range(1, 2))
    (folder,) = offline.glob("wandb/offline-run-*")
    defined = wandb_reader.definitions(folder)
    assert defined["train/global_step"].options.hidden
    assert defined["epoch"].options.hidden
    assert defined["*"].step_metric == "train/global_step"
    assert (defined["eval/cider"].summary.max, defined["eval/cider"].summary.min) == (True, False)
    assert (defined["eval/rep_4_count"].summary.max, defined["eval/rep_4_count"].summary.min) == (False, True)
    assert defined["eval/length"].summary.last
    (run,) = [record.run for record in wandb_reader.records(folder, "run")][:1]
    assert (run.job_type, list(run.tags)) == ("scst", ["cider-d", "a:b"])


def test_a_long_run_has_every_steps_samples_in_a_hundred_increments(offline: Path) -> None:
    _train(offline, range(1, 251), max_steps=250)
    (folder,) = offline.glob("wandb/offline-run-*")
    _, rows = wandb_reader.table(folder, "completions")
    assert [row[0] for row in rows] == [step for step in range(1, 251) for _ in range(2)]
    assert wandb_reader.increments(folder, "completions") == 84  # three steps each, and one at the end


def test_a_checkpoint_has_the_samples_before_it(offline: Path) -> None:
    args = TrainingArguments(output_dir=str(offline), report_to="none")
    state, control = TrainerState(is_world_process_zero=True, max_steps=1000, logging_steps=1), TrainerControl()
    callback = WandbCallback(offline)
    callback.on_train_begin(args, state, control)
    callback.log_samples(1, _records(1))
    (folder,) = offline.glob("wandb/offline-run-*")
    assert wandb_reader.increments(folder, "completions") == 0
    callback.on_save(args, state, control)
    assert wandb_reader.increments(folder, "completions") == 1
    callback.on_train_end(args, state, control)
    assert wandb_reader.increments(folder, "completions") == 1  # nothing was left


def test_a_restart_goes_on_in_the_same_run(offline: Path) -> None:
    _train(offline, range(1, 2))
    _train(offline, range(2, 3))
    runs = [path.name.rpartition("-")[2] for path in offline.glob("wandb/offline-run-*/*.wandb")]
    assert len(set(runs)) == 1
    assert len(runs) in (1, 2)  # two starts within one second share W&B's folder


def test_other_processes_open_nothing(offline: Path) -> None:
    args = TrainingArguments(output_dir=str(offline), report_to="none")
    callback = WandbCallback(offline)
    callback.on_train_begin(args, TrainerState(is_world_process_zero=False), TrainerControl())
    callback.on_log(args, TrainerState(is_world_process_zero=False), TrainerControl(), logs={"reward": 1.0})
    callback.log_samples(1, _records(1))
    callback.on_train_end(args, TrainerState(is_world_process_zero=False), TrainerControl())
    assert not (offline / "wandb").exists()


def test_pictures_are_opened_from_the_records(offline: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    first, second = _records(1)
    callback = WandbCallback(offline)
    callback.start(None, {})
    callback.log_samples(1, [first | {"image": str(tmp_path / "a.png")}, second | {"image": str(tmp_path / "b.png")}])
    callback.finish()
    (folder,) = offline.glob("wandb/offline-run-*")
    assert [row[3] for row in wandb_reader.table(folder, "completions")[1]] == ["Image", None]


def test_a_failure_is_told_once_and_the_training_goes_on(
    offline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(**settings: Any) -> None:
        raise wandb.errors.CommError("connection refused")

    monkeypatch.setattr(wandb, "init", unreachable)
    _train(offline, range(1, 4))
    out = capsys.readouterr().out
    assert out.count("connection refused); the run is kept offline in") == 1
    assert out.count("connection refused); the training goes on") == 1


def test_unreachable_at_the_start_is_kept_offline(
    offline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init = wandb.init

    def unreachable_online(mode: str | None = None, **settings: Any) -> Any:
        if mode != "offline":
            raise wandb.errors.CommError("connection refused")
        return init(mode=mode, **settings)

    monkeypatch.setattr(wandb, "init", unreachable_online)
    _train(offline, range(1, 3))
    (folder,) = offline.glob("wandb/offline-run-*")
    assert [row["reward"] for row in wandb_reader.history(folder) if "reward" in row] == pytest.approx([0.1, 0.2])
    assert "training goes on" not in capsys.readouterr().out


def test_without_wandb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'rlcap\[wandb\]'"):
        WandbCallback(tmp_path)
