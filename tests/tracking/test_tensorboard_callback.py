"""TensorBoard event files hold our names; a resume hides what came after its checkpoint."""

from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from rlcap.tracking.tensorboard_callback import TensorBoardCallback

pytest.importorskip("tensorboard", reason="TensorBoard is optional: pip install 'rlcap[tensorboard]'")


def _train(run_dir: Path, first: int, last: int) -> None:
    args = TrainingArguments(output_dir=str(run_dir), report_to="none")
    state, control = TrainerState(is_world_process_zero=True, global_step=first), TrainerControl()
    callback = TensorBoardCallback(run_dir)
    callback.on_train_begin(args, state, control)
    for step in range(first + 1, last + 1):
        state.global_step = step
        logs = {"rewards/cider-d/mean": step / 2 + first, "eval/cider": 30.0 + step, "note": "text"}
        callback.on_log(args, state, control, logs=logs)
    callback.on_train_end(args, state, control)


def _scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_scalars_keep_their_names(tmp_path: Path) -> None:
    _train(tmp_path, 0, 3)
    assert _scalars(tmp_path) == {
        "rewards/cider-d/mean": [(1, 0.5), (2, 1.0), (3, 1.5)],
        "eval/cider": [(1, 31.0), (2, 32.0), (3, 33.0)],
    }


def test_a_resume_replaces_later_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # event files are read in the order of their names, which begin with the second of their creation
    seconds = iter(range(1_700_000_000, 1_700_000_100))
    monkeypatch.setattr("time.time", lambda: float(next(seconds)))
    _train(tmp_path, 0, 4)
    _train(tmp_path, 2, 4)  # from a checkpoint at step 2
    assert _scalars(tmp_path)["rewards/cider-d/mean"] == [(1, 0.5), (2, 1.0), (3, 3.5), (4, 4.0)]


def test_without_tensorboard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'rlcap\[tensorboard\]'"):
        TensorBoardCallback(tmp_path)
