"""What is logged of the steps: means over all ranks, times of phases, measures and tables of the sampled captions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object

from captioners.base import Captioner
from rlcap.evaluation.samples import sample_checkers, sample_measures
from rlcap.tracking import run_directory
from rlcap.tracking.wandb_callback import WandbCallback
from rlcap.training.arguments import CaptionerTrainingArguments
from rlcap.training.running_means import RunningMeans
from rlcap.training.validation import ValidatingTrainer


class LoggingTrainer(ValidatingTrainer):
    """Gathers what happens between two logs, on every rank, and writes it as one line.

    means: a subclass adds to them. last_samples, last_records: what it sampled in its last micro-batch.
    """

    def __init__(self, captioner: Captioner, args: CaptionerTrainingArguments, **options: Any) -> None:
        super().__init__(captioner, args, **options)
        self.means = RunningMeans()
        self.sample_checkers = sample_checkers(args.sample_checkers)
        self.last_samples: list[str] = []
        self.last_records: list[dict[str, Any]] = []  # a record a sampled caption, for the table
        self._phase_seconds = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase of the step into `time/<name>`; the rest of the step is `time/update`."""
        started = time.perf_counter()
        yield
        if self.captioner.device.type == "cuda":
            torch.cuda.synchronize(self.captioner.device)
        seconds = time.perf_counter() - started
        self._phase_seconds += seconds
        self.means.add(f"time/{name}", seconds)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means since the last log over all ranks, and writes the line to `metrics.jsonl` too.

        The seconds of the whole training, which transformers logs at its end, are of this start alone: they are shown,
        and not written.
        """
        if "train_runtime" in logs:
            super().log({"time/train": logs["train_runtime"]}, start_time)
            return
        if "loss" in logs:
            means = self.means.drain(gather_object([self.means.state()]))
            samples = gather_object(self.last_samples)
            logs = {**logs, **means, **(sample_measures(samples, self.sample_checkers) if samples else {})}
            for table in self._sample_tables():
                table.log_samples(self.state.global_step, self.last_records)
        super().log(logs, start_time)
        if self.is_world_process_zero():
            run_directory.append_metrics(self.run_dir / "metrics.jsonl", self.state.global_step, logs)

    def will_show_samples(self, steps: int = 1) -> bool:
        """Whether one of the next steps ends in a log that has a table to show samples in."""
        args, done = self.args, self.state.global_step
        logged = args.logging_strategy == "epoch" or any(
            (args.logging_first_step and step == 1)
            or (args.logging_strategy == "steps" and step % self.state.logging_steps == 0)
            for step in range(done + 1, done + 1 + steps)
        )
        return logged and bool(self._sample_tables())

    def _sample_tables(self) -> list[WandbCallback]:
        # W&B's run, and with it the table, is open on the main process alone; elsewhere nothing is shown.
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, WandbCallback)]
