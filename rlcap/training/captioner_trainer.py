"""The base of all trainers: transformers.Trainer, and what captioning needs, once.

A subclass says what its objective is (`prepare`, `batch_loss`). Here is the step around it. The class stands on five
others, which stand on transformers.Trainer:

    logging_trainer.py  LoggingTrainer     what is logged of the steps
    validation.py       ValidatingTrainer  captions of a split are measured, the best captioner kept
    saving.py           SavingTrainer      captioners that are whole or not there
    hub.py              HubTrainer         what goes to the Hugging Face Hub
    resumable.py        ResumableTrainer   checkpoints that are whole or not there, and a resume to the same bits
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import datasets
import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from captioners.base import Captioner
from captioners.lora import LoraSettings
from captioners.types import CaptionTokens
from rewards import Reward
from rlcap.captioning import evaluating, nothing, to_device
from rlcap.data import stores
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.data.stream import CaptionStream
from rlcap.objectives.reduction import Total
from rlcap.tracking.console_callback import ConsoleCallback
from rlcap.training.arguments import CaptionerTrainingArguments, require
from rlcap.training.freed_memory import keep_freed_memory
from rlcap.training.gradient_check import GradientCheck
from rlcap.training.logging_trainer import LoggingTrainer
from rlcap.training.not_finite import CAUGHT, NotFinite, SkippedBatches
from rlcap.training.out_of_memory import advised
from rlcap.training.parts import parameter_groups
from rlcap.training.randomness import generator_of, seed_of
from rlcap.training.sharded import all_agree
from rlcap.training.step_loss import StepLoss
from rlcap.training.training_rows import TrainingRows

Batch = dict[str, Any]


class CaptionerTrainer(LoggingTrainer):
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
        if args.device.type == "cpu":
            keep_freed_memory()
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
        # The loss is normalised by StepLoss, over all micro-batches and ranks: Trainer must not divide it once more.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.training_rows = TrainingRows(train_dataset, args)
        self.step_loss = StepLoss(self.loss_weights)
        self.gradient_check = GradientCheck()
        self._batches: list[Batch] = []  # the micro-batches of a step
        self._prepared: list[Batch | None] = []
        self._micro_step = 0
        self.skipped = SkippedBatches(self.run_dir, args.process_index, args.max_not_finite)

    # What subclasses say

    @property
    def loss_weights(self) -> dict[str, float]:
        """The terms of the loss and their weights, the objective first; `batch_loss` has the same names."""
        return {"loss": 1.0}

    def begin(self, model: nn.Module, batch: Batch) -> Any:
        """What comes first, for all micro-batches of a step, and may go on beside the next one; handed to `prepare`."""
        return None

    def prepare(self, batch: Batch, begun: Any) -> tuple[Batch, Mapping[str, Tensor]] | None:
        """What comes before the gradient (rewards, tokenizing): the batch with it, and what each term will count.

        Called for all micro-batches of a step before the first one is differentiated. None: this one teaches nothing.
        """
        raise TypeError(f"{type(self).__name__} has no prepare")

    def batch_loss(self, model: nn.Module, batch: Batch) -> Mapping[str, Total]:
        """The terms of one prepared micro-batch, as sums and what they count. `model` is the wrapped captioner."""
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
        """Trainer's loader of a data set, on several ranks TrainingRows', as of a stream."""
        rows = self.train_dataset
        if isinstance(rows, CaptionStream):
            return self.training_rows.stream_loader(rows, self.data_collator)
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        return self.training_rows.loader(rows, self._get_train_sampler(), self.data_collator)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | int | None]:
        """Trainer's: the micro-batches of a step, which are looked at together."""
        self._batches, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        return self._batches, number

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> int:
        return 1  # counted by the objective; see StepLoss

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """What the micro-batch adds to the loss of the step."""
        assert not return_outputs, "evaluation generates captions; it never asks for outputs"
        self.training_rows.count(inputs)
        if self._micro_step == 0:
            self._prepare_step(model, self._batches or [inputs])  # a step of its own, outside of train()
        batch, self._prepared[self._micro_step] = self._prepared[self._micro_step], None
        if batch is None:
            return self.no_loss(model)
        share = None
        with self.accelerator.autocast(), self._skipping(batch):
            totals = self.batch_loss(model, batch)
            found = self.step_loss.share(totals)
            if not torch.isfinite(found):
                raise NotFinite(f"the loss is {found.item()}")
            share = found
        if not all_agree(self.captioner, share is not None) or share is None:
            return self.no_loss(model)
        objective = next(iter(totals.values()))
        self.means.add("loss", share.item() * self.step_loss.count, objective.count.item())
        return self.step_loss.for_backward(share)

    def _prepare_step(self, model: nn.Module, batches: list[Batch]) -> None:
        """Prepares all micro-batches of a step, each with the random numbers of its place, and counts over ranks."""
        self._prepared, counts = [], []
        begun: list[tuple[Batch, Any] | None] = []
        for self._micro_step, batch in enumerate(batches):
            if not all_agree(self.captioner, batch["visual"] is not None):
                begun.append(None)
                continue
            batch = {**batch, "visual": to_device(batch["visual"], self.captioner.device)}
            with self.accelerator.autocast():  # what is sampled is what is scored
                begun.append((batch, self.begin(model, batch)))
        for self._micro_step, known in enumerate(begun):
            found = None
            if known is not None:
                with self.accelerator.autocast(), self._skipping(known[0]):
                    found = self.prepare(*known)
            if not all_agree(self.captioner, found is not None):
                found = None
            self._prepared.append(found and found[0])
            if found:
                counts.append(found[1])
        self._batches, self._micro_step = [], 0
        self.step_loss.begin(counts, self.accelerator)
        self.gradient_check.begin(model, self.accelerator)

    @contextmanager
    def _skipping(self, batch: Batch) -> Iterator[None]:
        """Leaves out a micro-batch whose rewards or loss are not finite, while `max_not_finite` allows it."""
        try:
            yield
        except CAUGHT as error:
            self.skipped.skip(error, self.state.global_step, batch["rows"], self.last_samples)
            self.last_samples, self.last_records = [], []

    def no_loss(self, model: nn.Module) -> Tensor:
        """0, with a gradient of 0 on every parameter: this micro-batch teaches nothing, other ranks' do."""
        with self.accelerator.autocast():
            return model(*nothing(self.captioner)).log_probs.sum()

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one micro-batch; dropout is seeded by where the run is."""
        started = time.perf_counter()
        torch.manual_seed(self.seed_here("dropout"))
        self._phase_seconds = 0.0
        self.last_samples, self.last_records = [], []
        with advised(self.args, self.memory_keys):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            if not self.gradient_check.finite(model, self.accelerator):
                reason = NotFinite("the gradient is NaN or infinite, though the loss is not")
                self.skipped.skip(reason, self.state.global_step, inputs["rows"], self.last_samples)
                if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
                    raise NotFinite(f"{reason}; DeepSpeed has moved the weights by it, so no step can be skipped")
            self._micro_step = 0
        else:
            self._micro_step += 1
        self.means.add("time/update", time.perf_counter() - started - self._phase_seconds)
        return loss

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
