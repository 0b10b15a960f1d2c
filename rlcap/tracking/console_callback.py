"""A training on the terminal: a bar, a line a log, and a table an evaluation, in the place of transformers' dicts."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlcap.console import progress, say
from rlcap.evaluation.metrics import IN_SHORT, direction
from rlcap.tracking import run_directory
from rlcap.tracking.evaluations import best_step, evaluation_records, is_number

# What a line shows of a log, and how it is called there; `metrics.jsonl` has everything.
IN_LINE = {
    "loss": "loss",
    "reward": "reward",
    "ranking/pair_accuracy": "pairs in order",
    "rewards/margin": "margin",
    "log_probs/best": "best caption",
    "completions/mean_length": "length",
    "repetition/rep_4": "rep-4",
    "grammar/bad_ending_rate": "bad endings",
    "entropy": "entropy",
    "kl": "kl",
    "kl_lower_bound": "kl at least",
    "learning_rate": "lr",
}

# What a table shows of the chains of ranking-DPO.
RANKING = (
    "ranking/pair_accuracy",
    "ranking/exact_order",
    "assessment/pair_accuracy",
    "log_probs/best",
    "kl_lower_bound",
)


class ConsoleCallback(TrainerCallback):
    """Says on the main process how a training goes; `disable_tqdm` leaves out the bar, `--quiet` everything."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._bar: tqdm | None = None
        self._begun = (0, 0.0)  # step, and seconds of the clock

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draws the bar, from the step that the training goes on from."""
        self._begun = (state.global_step, time.monotonic())
        if state.is_world_process_zero:
            if (notice := too_short(args, state)) is not None:
                say(f"rlcap: {notice}")
            off = bool(args.disable_tqdm)
            self._bar = progress(
                desc="training", total=state.max_steps, initial=state.global_step, unit="step", disable=off
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Moves the bar on."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Says a line; evaluations have their table."""
        if state.is_world_process_zero and logs and "loss" in logs:
            step, started = self._begun
            done = max(state.global_step - step, 1)
            say(log_line(logs, state.global_step, state.max_steps, (time.monotonic() - started) / done))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Shows the evaluation beside the first and the best one of the run."""
        if state.is_world_process_zero:
            evaluations = evaluation_records(run_directory.read_metrics(self._run_dir / "metrics.jsonl"))
            say(evaluation_table(evaluations, args.to_dict()))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar, and says how long it took."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            step, started = self._begun
            say(f"{state.global_step - step} steps in {duration(time.monotonic() - started)}")


def too_short(args: TrainingArguments, state: TrainerState) -> str | None:
    """What a run of so few steps will not come to: the end of its warm-up, a log of its loss; None for longer ones."""
    steps, missed = state.max_steps, []
    if args.lr_scheduler_type != "constant" and args.get_warmup_steps(steps) >= steps:
        missed.append(f"ends inside its warm-up (warmup_steps {args.warmup_steps:g})")
    if args.logging_strategy == "steps" and state.logging_steps > steps and not args.logging_first_step:
        missed.append(f"logs no loss (logging_steps {state.logging_steps})")
    return f"a training of {steps} steps {' and '.join(missed)}" if missed else None


def log_line(logs: Mapping[str, Any], step: int, max_steps: int, seconds_per_step: float) -> str:
    """One line: where the training is, the main measures of `logs`, its rate, and the time left at that rate."""
    words = [f"step {step:>{len(str(max_steps))}}/{max_steps}"]
    for name, short in IN_LINE.items():
        if is_number(logs.get(name)):
            words.append(f"{short} {compact(logs[name])}")
        if name == "reward":  # each of several rewards after their sum
            single = {
                key.split("/")[1]: value for key, value in logs.items() if _is_reward_mean(key) and is_number(value)
            }
            words += (
                [f"{reward} {compact(value)}" for reward, value in sorted(single.items())] if len(single) > 1 else []
            )
    left = duration((max_steps - step) * seconds_per_step)
    return "  ".join([*words, f"{seconds_per_step:.2f} s/step", f"{left} left"])


def evaluation_table(evaluations: Mapping[int, Mapping[str, float]], settings: Mapping[str, Any]) -> Table:
    """The last evaluation beside the first and the best; the change is from the first, green where it is a gain.

    evaluations: step -> metric -> value, at least one; settings: the run's (`metric_for_best_model` and its siblings).
    """
    first, now = min(evaluations), max(evaluations)
    best = best_step(evaluations, settings)
    columns = [("first", first), *([("best", best)] if best is not None else []), ("now", now)]
    table = Table(title=f"validation at step {now:,}", title_justify="left", title_style="bold", show_edge=False)
    table.add_column("")
    for name, step in columns:
        table.add_column(f"{name}\nstep {step:,}", justify="right")
    table.add_column("change", justify="right")
    chosen = str(settings.get("metric_for_best_model") or "cider")
    for metric in dict.fromkeys((*IN_SHORT, *RANKING, chosen)):
        if metric not in evaluations[now]:
            continue
        values = [evaluations[step].get(metric) for _, step in columns]
        change = None if values[0] is None else evaluations[now][metric] - values[0]
        table.add_row(metric, *("" if value is None else compact(value) for value in values), _change(metric, change))
    return table


def compact(value: float) -> str:
    """A number in four digits or so: 1234, 132.4, 9.27, 0.713, 5.0e-06."""
    size = abs(value)
    if value == 0 or 0.001 <= size < 10_000:
        return f"{value:.0f}" if size >= 1000 or value == 0 else f"{value:.1f}" if size >= 100 else f"{value:.4g}"
    return f"{value:.1e}"


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 3:20, 1:02:45."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _is_reward_mean(name: str) -> bool:
    return name.startswith("rewards/") and name.endswith("/mean")


def _change(metric: str, change: float | None) -> Text:
    if not change:
        return Text("")
    gain = direction(metric) * change
    text = f"{'+' if change > 0 else '−'}{compact(abs(change))}"
    return Text(text, style="green" if gain > 0 else "red" if gain < 0 else "")
