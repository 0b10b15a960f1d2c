"""What the trainers of learned rewards share: whole checkpoints, the best model, metrics.jsonl, going on."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainingArguments

from rlcap.console import say
from rlcap.launching import world
from rlcap.recipes import check_types
from rlcap.tracking import run_directory
from rlcap.training import checkpoints, told_to_stop
from rlcap.training.arguments import require, settings_of
from rlcap.training.freed_memory import keep_freed_memory
from rlcap.training.not_finite import NotFinite, SkippedBatches
from rlcap.training.out_of_memory import advised
from rlcap.training.resumable import ResumableTrainer
from rlcap.training.run import begin, trackers
from rlcap.training.running_means import RunningMeans

TRAINED_FILE = "trained.safetensors"
FINAL = "final"  # the reward, in the run's folder


@dataclass
class RewardArguments(TrainingArguments):
    """transformers.TrainingArguments with the defaults that suit learned rewards."""

    output_dir: str | None = field(default=None, metadata={"help": "the run's folder; the reward is in its `final/`"})
    logging_steps: float = field(default=10, metadata={"help": "log every so many steps"})
    eval_strategy: str = field(default="epoch", metadata={"help": "when validation is measured: epoch, steps or no"})
    save_strategy: str = field(default="epoch", metadata={"help": "when a checkpoint is written: epoch, steps or no"})
    save_total_limit: int | None = field(default=2, metadata={"help": "complete checkpoints to keep"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "stays false: batches are made here"})
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "stays so: what batches call their targets"}
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "stays false: NaN stops the run"})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "pin batches in memory (GPUs)"})
    ddp_find_unused_parameters: bool | None = field(
        default=True, metadata={"help": "true: a vision tower may have layers that its language model never reads"}
    )

    def __post_init__(self) -> None:
        check_types(self)
        require(bool(self.output_dir), "output_dir", self.output_dir, "the run's folder (--output_dir runs/NAME)")
        require(
            self.resume_from_checkpoint is None,
            "resume_from_checkpoint",
            self.resume_from_checkpoint,
            "left out: the same command goes on from the last complete checkpoint in output_dir by itself",
        )
        require(not self.load_best_model_at_end, "load_best_model_at_end", True, "false: the best is kept by itself")
        super().__post_init__()
        if self.eval_strategy == "no":
            self.eval_on_start = False  # a recipe's, where the command line switches evaluation off
        world.settle(self)
        reported = [self.report_to] if isinstance(self.report_to, str) else list(self.report_to or [])
        # Ours log under our names; transformers' own would rename every scalar. The others stay with transformers.
        self.trackers = [name for name in reported if name in ("wandb", "tensorboard")]
        self.report_to = [name for name in reported if name not in self.trackers]
        # Rotation is ours (a checkpoint counts once it is complete), so transformers' own is told to keep all.
        self.checkpoints_kept = self.save_total_limit
        self.save_total_limit = None


class RewardTrainer(ResumableTrainer):
    """Trains a model that has `save(directory)`, in one process or with DDP; a checkpoint keeps what trains.

    The model that is best by `metric_for_best_model` is in `final/` of the run's folder, the last one where nothing is
    evaluated. A loss or gradient that is NaN or infinite stops the run (not_finite.py); for that batches name their
    "rows".

    means: a subclass adds to them what is logged beside the loss.
    """

    args: RewardArguments
    memory_keys: ClassVar[tuple[str, ...]] = ("per_device_train_batch_size",)

    def __init__(self, model: nn.Module, args: RewardArguments, **options: Any) -> None:
        if args.device.type == "cpu":
            keep_freed_memory()
        super().__init__(model=model, args=args, **options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "learned rewards train in one process or with DDP; under FSDP or DeepSpeed no rank has all weights "
                "to save. Train with LoRA where a model does not fit"
            )
        self.model_accepts_loss_kwargs = False  # **inputs of a forward are no loss arguments: Trainer averages
        self.means = RunningMeans()
        self._skipped = SkippedBatches(self.run_dir, args.process_index, 0)
        self._rows: Sequence[Mapping[str, Any]] = ()  # of the last micro-batch
        for callback in trackers(args):
            self.add_callback(callback)

    def trained(self) -> dict[str, Tensor]:
        """The parameters that train, by name."""
        return {name: p for name, p in self._bare().named_parameters() if p.requires_grad}

    def export(self) -> None:
        """Writes the reward as it is now into its folder, which appears whole or not at all."""
        self._require_finite()
        if self.args.should_save:
            with checkpoints.whole_directory(self.run_dir / FINAL) as unfinished:
                self._bare().save(unfinished)
        self.accelerator.wait_for_everyone()

    # One step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Trainer's. Raises NotFinite where the loss is NaN or infinite, its batch written down."""
        self._rows = inputs["rows"]
        with advised(self.args, self.memory_keys):
            loss = super().training_step(model, inputs, num_items_in_batch)
        share = loss.item()  # of the step's loss, which is the mean over its micro-batches
        if not math.isfinite(share):
            self._skipped.skip(NotFinite(f"the loss is {share}"), self.state.global_step, self._rows, ())
        self.means.add("loss", share, 1 / self.current_gradient_accumulation_steps)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Trainer's, the same on all ranks, before the optimizer moves anything by it."""
        norm = super()._get_grad_norm(model, grad_norm)
        # Under fp16 infinite ones are usual: the scaler skips these steps, and scales less.
        if self.accelerator.scaler is None and not math.isfinite(norm):
            reason = NotFinite("the gradient is NaN or infinite")
            self._skipped.skip(reason, self.state.global_step, self._rows, ())
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs with the means since the last log over all ranks, and writes the line to `metrics.jsonl` too."""
        if "loss" in logs:
            logs = {**logs, **self.means.drain(gather_object([self.means.state()]))}
        super().log(logs, start_time)
        if self.is_world_process_zero() and "train_runtime" not in logs:
            run_directory.append_metrics(self.run_dir / "metrics.jsonl", self.state.global_step, logs)

    # Checkpoints

    def checkpoint_state(self) -> dict[str, Any]:
        """Adds what was counted since the last log."""
        return {**super().checkpoint_state(), "means": self.means.state()}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        super().restore_state(state)
        self.means.restore(state["means"])

    def _bare(self) -> Any:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best:
            self.export()
        return is_best

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.args.should_save:
            directory = Path(str(output_dir))
            directory.mkdir(parents=True, exist_ok=True)
            save_file(
                {name: p.detach().cpu().contiguous() for name, p in self.trained().items()}, directory / TRAINED_FILE
            )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._require_finite()
        super()._save_checkpoint(model, trial)

    def _require_finite(self) -> None:
        wrong = [name for name, parameter in self.trained().items() if not parameter.isfinite().all()]
        if wrong:
            raise NotFinite(
                f"{len(wrong)} weights are NaN or infinite after step {self.state.global_step}: {', '.join(wrong[:5])}"
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        directory = Path(resume_from_checkpoint)
        stored, own = load_file(directory / TRAINED_FILE), self.trained()
        if stored.keys() != own.keys():
            different = sorted(stored.keys() ^ own.keys())
            raise ValueError(f"{directory} is of a run that trains other weights: {', '.join(different[:5])}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(stored[name])


def train(trainer: RewardTrainer, command: str, described: Mapping[str, Any] | None = None) -> Path:
    """Trains, or goes on from the last complete checkpoint; returns the folder of the reward.

    described: what determines the run beside its arguments, for `run.json`.
    Raises ValueError where the run's folder holds a run with other settings, or of another number of processes, Stopped
    where it was told to stop.
    """
    args, run_dir = trainer.args, trainer.run_dir
    settings = json.loads(json.dumps({**(described or {}), **settings_of(args)}))
    resume = begin(trainer, settings)
    if trainer.is_world_process_zero():
        run_directory.write_run(run_dir, command=command, settings=settings, seed=args.seed)
        trained = sum(p.numel() for p in trainer.trained().values())
        say(f"rlcap: {trained:,} of {sum(p.numel() for p in trainer._bare().parameters()):,} parameters train")
        if resume is not None:
            say(f"rlcap: going on from {resume}")
    told_to_stop.train(trainer, resume)
    if args.eval_strategy == "no" or trainer.state.best_metric is None:
        trainer.export()
    return run_dir / FINAL
