"""The base of all trainers: transformers.Trainer, and what captioning needs, once.

A subclass says what its objective is (`batch_loss`). Here is the step around it, and what is logged of it. The class
stands on three others, which stand on transformers.Trainer:

    validation.py   ValidatingTrainer   captions of a split are measured, the best captioner kept
    resumable.py    ResumableTrainer    checkpoints that are whole or not there, and a resume to the same bits
    hub.py          HubTrainer          what goes to the Hugging Face Hub
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import datasets
import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from captioners.base import Captioner
from captioners.lora import LoraSettings
from captioners.types import CaptionTokens
from rewards import Reward
from rlcap.captioning import evaluating, to_device
from rlcap.data import stores
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.data.stream import CaptionStream
from rlcap.evaluation.samples import sample_checkers, sample_measures
from rlcap.objectives.reduction import Total
from rlcap.tracking import run_directory
from rlcap.tracking.console_callback import ConsoleCallback
from rlcap.tracking.wandb_callback import WandbCallback
from rlcap.training.arguments import CaptionerTrainingArguments, require
from rlcap.training.gradients import MeanGradients
from rlcap.training.not_finite import CAUGHT, NotFinite, SkippedBatches
from rlcap.training.out_of_memory import advised
from rlcap.training.parts import parameter_groups
from rlcap.training.randomness import generator_of, seed_of
from rlcap.training.running_means import RunningMeans
from rlcap.training.training_rows import TrainingRows
from rlcap.training.validation import ValidatingTrainer

Batch = dict[str, Any]


class CaptionerTrainer(ValidatingTrainer):
    """Trains a captioner by an objective over the scores of K captions a picture.

    captioner      trained in place; `args.freeze` names the parts that stay
    train_dataset  rows of `rlcap.data.load_captions`, or a CaptionStream (needs `max_steps`)
    eval_dataset   rows of `rlcap.data.load_captions`; None trains without evaluation
    features       grid features written by `rlcap features`; pictures are then not opened
    eval_rewards   rewards that measure the captions of evaluations; those of `args.eval_rewards`, loaded
    keep_images    batches carry the decoded pictures too (rewards that look at them)
    """

    memory_keys: ClassVar[tuple[str, ...]] = ("per_device_train_batch_size", "captions_per_image", "max_caption_length")

    def __init__(
        self,
        captioner: Captioner,
        args: CaptionerTrainingArguments,
        train_dataset: datasets.Dataset | CaptionStream,
        eval_dataset: datasets.Dataset | None = None,
        *,
        features: FeatureStore | None = None,
        eval_rewards: Sequence[Reward] = (),
        keep_images: bool = False,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        for key in ("max_caption_length", "eval_max_new_tokens"):
            limit, value = captioner.codec.limit, getattr(args, key)
            require(
                value is None or value <= limit,
                key,
                value,
                f"at most {limit}: this captioner has no more positions for tokens",
            )
        streamed = isinstance(train_dataset, CaptionStream)
        require(not streamed or args.max_steps > 0, "max_steps", args.max_steps, "set: a stream of shards has no end")
        if args.lora_parts:
            set_seed(args.seed)  # its matrices are drawn
            captioner.add_lora(LoraSettings(tuple(args.lora_parts), args.lora_rank, args.lora_alpha, args.lora_dropout))
        stores.wait_at_most(args.picture_timeout)
        captioner.freeze(*args.freeze)
        captioner.dropout_off = args.dropout_off
        super().__init__(
            captioner,
            args,
            features=features,
            eval_rewards=eval_rewards,
            data_collator=VisualCollator(captioner.preprocessor, features, keep_images=keep_images),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
        )
        for theirs in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
            self.remove_callback(theirs)
        self.add_callback(ConsoleCallback(self.run_dir))
        # The loss is normalised here, over all micro-batches and ranks: Trainer must not divide it once more.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.means = RunningMeans()
        self.training_rows = TrainingRows(train_dataset, args)
        self.gradients = MeanGradients(args.per_device_train_batch_size)
        self.sample_checkers = sample_checkers(args.sample_checkers)
        self.last_samples: list[str] = []  # of the last micro-batch, where the trainer samples
        self.last_records: list[dict[str, Any]] = []  # a record a sampled caption, for the table
        self._micro_step = 0
        self._phase_seconds = 0.0
        self.skipped = SkippedBatches(self.run_dir, args.process_index, args.max_not_finite)

    # What subclasses say

    def batch_loss(self, model: nn.Module, batch: Batch) -> Total:
        """The loss of one micro-batch as a sum and what it is to be divided by. `model` is the wrapped captioner."""
        raise TypeError(f"{type(self).__name__} has no batch_loss")

    def checkpoint_state(self) -> dict[str, Any]:
        """Adds what was counted since the last log, and how far the training rows are read."""
        return {
            **super().checkpoint_state(),
            "means": self.means.state(),
            "skipped": self.skipped.count,
            **self.training_rows.state(),
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        super().restore_state(state)
        self.means.restore(state["means"])
        self.skipped.count = state.get("skipped", 0)
        self.training_rows.restore(state)

    # One step

    def get_train_dataloader(self) -> DataLoader:
        """Trainer's loader of a data set; TrainingRows' of a stream."""
        stream = self.train_dataset
        if not isinstance(stream, CaptionStream):
            return super().get_train_dataloader()
        return self.training_rows.stream_loader(stream, self.data_collator)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The objective's sum over the micro-batch, divided by a constant; `training_step` divides by the count."""
        assert not return_outputs, "evaluation generates captions; it never asks for outputs"
        self.training_rows.count(inputs)
        if inputs["visual"] is None:
            return self.no_loss(model)
        batch = {**inputs, "visual": to_device(inputs["visual"], self.captioner.device)}
        with self.accelerator.autocast():  # sampling too: what is sampled is what is scored
            try:
                result = self.batch_loss(model, batch)
                if not torch.isfinite(result.total):
                    raise NotFinite(f"the loss is {result.total.item()}")
            except CAUGHT as error:
                self.skipped.skip(error, self.state.global_step, batch["rows"], self.last_samples)
                self.last_samples, self.last_records = [], []
                result = None
        if result is None:
            return self.no_loss(model)
        self.means.add("loss", result.total.item(), result.count.item())
        return self.gradients.add(result)

    def no_loss(self, model: nn.Module) -> Tensor:
        """0, with a gradient of 0 on every parameter: no picture of this batch could be decoded, other ranks' could."""
        captioner = self.captioner
        visual = to_device(captioner.preprocess([Image.new("RGB", (64, 64))]), captioner.device)
        ids = torch.full((1, 1, 1), captioner.codec.special.eos, device=captioner.device)
        none = torch.zeros((1, 1), dtype=torch.bool, device=captioner.device)
        with self.accelerator.autocast():
            return model(visual, CaptionTokens(ids, torch.ones_like(ids, dtype=torch.bool), none, none)).log_probs.sum()

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one micro-batch; dropout is seeded by where the run is."""
        started = time.perf_counter()
        torch.manual_seed(self.seed_here("dropout"))
        self._phase_seconds = 0.0
        self.last_samples, self.last_records = [], []
        with advised(self.args, self.memory_keys):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            if not self.gradients.finish(model, self.accelerator):
                reason = NotFinite("the gradient is NaN or infinite, though the loss is not")
                self.skipped.skip(reason, self.state.global_step, inputs["rows"], self.last_samples)
            self._micro_step = 0
        else:
            self._micro_step += 1
        self.means.add("time/update", time.perf_counter() - started - self._phase_seconds)
        return loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> int:
        return 1  # counted by the objective; see compute_loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW (or `args.optim`) with the groups of `parameter_groups`: each part at its own learning rate."""
        if self.optimizer is None:
            model = model or self.model
            decayed = set(self.get_decay_parameter_names(model))
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(parameter_groups(self.captioner, model, self.args, decayed), **settings)
        return self.optimizer

    # What a step is made with

    def seed_here(self, purpose: str) -> int:
        """A seed from (seed, step, micro-step, rank, purpose) and nothing else."""
        return seed_of(*self._where(purpose))

    def generator_here(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator seeded by `seed_here`."""
        return generator_of(device, *self._where(purpose))

    def _where(self, purpose: str) -> tuple[int | str, ...]:
        return self.args.seed, self.state.global_step, self._micro_step, self.args.process_index, purpose

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

    def seen(self, visual: Batch) -> Batch:
        """The pictures of a batch, or what a frozen vision model makes of them, once for all uses."""
        if "vision" not in self.captioner.frozen:
            return visual
        with evaluating(self.captioner):
            return self.captioner.seen(visual)

    def references_of(self, rows: list[dict[str, Any]]) -> CaptionTokens:
        """The references of a batch, `captions_per_image` of each picture drawn at random, or all; ragged in K."""
        wanted = self.args.captions_per_image
        generator = self.generator_here("captions")
        chosen = []
        for row in rows:
            captions = row["references"]
            if wanted is not None and wanted < len(captions):
                order = torch.randperm(len(captions), generator=generator)[:wanted].tolist()
                captions = [captions[index] for index in order]
            chosen.append(captions)
        return self.captioner.tokenize(chosen, max_length=self.args.max_caption_length).to(self.captioner.device)

    # Logging

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
