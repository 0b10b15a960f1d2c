"""The base of all trainers: transformers.Trainer, and what captioning needs, once.

A subclass says what its objective is (`batch_loss`), everything else is here: which parts train at which rate, losses
normalised over all micro-batches and ranks, evaluation by generating captions, metrics that follow the run, checkpoints
that are whole or not there, and a resume to the same bits.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, set_seed
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

import captioners
from captioners.base import Captioner
from captioners.lora import LoraSettings
from captioners.types import CaptionTokens, GenerationSettings
from rlcap.captioning import caption_all, to_device
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.data.images import BadImageCounter
from rlcap.data.stream import CaptionStream, Given, StreamBatches
from rlcap.evaluation.metrics import evaluate_captions
from rlcap.evaluation.samples import sample_checkers, sample_measures
from rlcap.objectives.reduction import Total
from rlcap.tracking import model_card, run_directory
from rlcap.tracking.console_callback import ConsoleCallback
from rlcap.tracking.evaluated_pictures import pictures_file, write_pictures
from rlcap.tracking.evaluations import evaluation_records
from rlcap.tracking.wandb_callback import WandbCallback
from rlcap.training import checkpoints
from rlcap.training.arguments import CaptionerTrainingArguments, default_settings, require, settings_of
from rlcap.training.hub import HubTrainer
from rlcap.training.parts import parameter_groups
from rlcap.training.randomness import generator_of, seed_of
from rlcap.training.running_means import RunningMeans

Batch = dict[str, Any]


class _EpochEnd(TrainerCallback):
    """Whether the epoch's last step is behind us; transformers asks for logs and checkpoints before and after that."""

    ended = False

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ended = False

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ended = True


class CaptionerTrainer(HubTrainer):
    """Trains a captioner by an objective over the scores of K captions a picture.

    captioner      trained in place; `args.freeze` names the parts that stay
    train_dataset  rows of `rlcap.data.load_captions`, or a CaptionStream (needs `max_steps`)
    eval_dataset   rows of `rlcap.data.load_captions`; None trains without evaluation
    features       grid features written by `rlcap features`; pictures are then not opened
    keep_images    batches carry the decoded pictures too (rewards that look at them)
    """

    args: CaptionerTrainingArguments

    def __init__(
        self,
        captioner: Captioner,
        args: CaptionerTrainingArguments,
        train_dataset: datasets.Dataset | CaptionStream,
        eval_dataset: datasets.Dataset | None = None,
        *,
        features: FeatureStore | None = None,
        keep_images: bool = False,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        for key in ("max_caption_length", "eval_max_new_tokens"):
            limit, value = captioner.codec.limit, getattr(args, key)
            require(value <= limit, key, value, f"at most {limit}: this captioner has no more positions for tokens")
        streamed = isinstance(train_dataset, CaptionStream)
        require(not streamed or args.max_steps > 0, "max_steps", args.max_steps, "set: a stream of shards has no end")
        if args.lora_parts:
            set_seed(args.seed)  # its matrices are drawn
            captioner.add_lora(LoraSettings(tuple(args.lora_parts), args.lora_rank, args.lora_alpha, args.lora_dropout))
        captioner.freeze(*args.freeze)
        captioner.dropout_off = args.dropout_off
        self._epoch_end = _EpochEnd()
        super().__init__(
            model=captioner,
            args=args,
            data_collator=VisualCollator(captioner.preprocessor, features, keep_images=keep_images),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=[self._epoch_end, *(callbacks or [])],
        )
        for theirs in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
            self.remove_callback(theirs)
        self.add_callback(ConsoleCallback(Path(str(args.output_dir))))
        self.captioner = captioner
        self.features = features
        # The loss is normalised here, over all micro-batches and ranks: Trainer must not divide it once more.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        self.means = RunningMeans()
        self.run_dir = Path(str(args.output_dir))
        # Of a stream, what was seen counts, and from the start a buffer's worth.
        total = train_dataset.buffer if isinstance(train_dataset, CaptionStream) else len(train_dataset)
        # Each rank sees, and may lose, its share.
        self.bad_images = BadImageCounter(math.ceil(total / args.world_size), args.max_bad_images)
        self._batches: StreamBatches | None = None
        self._stream_start: dict[str, int] | None = None
        self._rows_seen = 0
        self.best: dict[str, Any] = {"value": None, "step": None, "without_gain": 0}
        self.sample_checkers = sample_checkers(args.sample_checkers)
        self.last_samples: list[str] = []  # of the last micro-batch, where the trainer samples
        self.last_records: list[dict[str, Any]] = []  # a record a sampled caption, for the table
        self._micro_step = 0
        self._counted = 0.0
        self._saving_to: Path | None = None
        self._checked_gradients = False
        self._described: set[str] = set()  # evaluations whose pictures have been written

    # What subclasses say

    def batch_loss(self, model: nn.Module, batch: Batch) -> Total:
        """The loss of one micro-batch as a sum and what it is to be divided by. `model` is the wrapped captioner."""
        raise TypeError(f"{type(self).__name__} has no batch_loss")

    # The run

    def train(self, resume_from_checkpoint: str | bool | None = None, *what: Any, **options: Any) -> Any:
        """Trains, from a checkpoint or anew: then what an earlier start left in `metrics.jsonl` is dropped."""
        if resume_from_checkpoint is not None:
            self.args.eval_on_start = False  # the first start has done that
        elif self.is_world_process_zero():
            run_directory.truncate_metrics(self.run_dir / "metrics.jsonl", -1)
        return super().train(resume_from_checkpoint, *what, **options)

    def _run_epoch(self, *where: Any, **options: Any) -> None:
        """Nothing where the checkpoint was the last of its run: transformers would take one step more."""
        patience = self.args.early_stopping_patience
        stopped = patience is not None and self.best["without_gain"] >= patience
        if stopped or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*where, **options)

    def _maybe_log_save_evaluate(self, *what: Any, **options: Any) -> None:
        """Once a step: after an epoch's last step, and the run's, everything waits for the end of the epoch.

        So the checkpoint of a step comes last, and whatever a kill takes away a resume does again.
        """
        last = float(self.state.epoch or 0).is_integer() or self.control.should_training_stop
        if self._epoch_end.ended or not last:
            super()._maybe_log_save_evaluate(*what, **options)

    def get_train_dataloader(self) -> DataLoader:
        """Trainer's loader of a data set; of a stream one that Accelerate leaves alone: the stream itself shards."""
        args, stream = self.args, self.train_dataset
        if not isinstance(stream, CaptionStream):
            return super().get_train_dataloader()
        self._batches = StreamBatches(
            stream,
            args.per_device_train_batch_size,
            args.data_seed if args.data_seed is not None else args.seed,
            args.process_index,
            args.world_size,
            self._stream_start,
        )
        workers = args.dataloader_num_workers
        return DataLoader(
            Given(),
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            num_workers=workers,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            pin_memory=args.dataloader_pin_memory,
        )

    # One step

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The objective's sum over the micro-batch, divided by a constant; `training_step` divides by the count."""
        assert not return_outputs, "evaluation generates captions; it never asks for outputs"
        if self._batches is not None:
            self._batches.used()
            self._rows_seen += len(inputs["rows"]) + len(inputs["bad"])
            self.bad_images.total = max(self.bad_images.total, self._rows_seen)
        self.bad_images.extend(inputs["bad"])
        if inputs["visual"] is None:
            return self._no_loss(model)
        batch = {**inputs, "visual": to_device(inputs["visual"], self.captioner.device)}
        with self.accelerator.autocast():  # sampling too: what is sampled is what is scored
            result = self.batch_loss(model, batch)
        if not torch.isfinite(result.total):
            names = [row["image_id"] for row in batch["rows"]]
            raise ValueError(f"the loss is {result.total.item()} at step {self.state.global_step} for pictures {names}")
        self.means.add("loss", result.total.item(), result.count.item())
        self._counted += result.count.item()
        return result.total / self.args.per_device_train_batch_size

    def _no_loss(self, model: nn.Module) -> Tensor:
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
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._finish_gradients(model)
            self._micro_step = 0
        else:
            self._micro_step += 1
        self.means.add("time/update", time.perf_counter() - started - self._phase_seconds)
        return loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> int:
        return 1  # counted by the objective; see compute_loss

    def _finish_gradients(self, model: nn.Module) -> None:
        """Divides the gradients by what was counted over all micro-batches and ranks, and checks that all are there."""
        counted = self.accelerator.reduce(torch.tensor(self._counted, device=self.args.device), reduction="sum").item()
        self._counted = 0.0
        # Ranks have averaged their gradients, each of which was divided by the constant of compute_loss.
        scale = self.args.per_device_train_batch_size * self.accelerator.num_processes / max(counted, 1.0)
        without = []
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
            elif parameter.requires_grad:
                without.append(name)
        if without and not self._checked_gradients:
            raise ValueError(
                f"{len(without)} parameters should train and got no gradient: {', '.join(without[:10])}; freeze their "
                "part, or name them in the adapter's unused_parameters"
            )
        self._checked_gradients = True

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

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW (or `args.optim`) with the groups of `parameter_groups`: each part at its own learning rate."""
        if self.optimizer is None:
            model = model or self.model
            decayed = set(self.get_decay_parameter_names(model))
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(parameter_groups(self.captioner, model, self.args, decayed), **settings)
        return self.optimizer

    # Evaluation

    def evaluate(
        self,
        eval_dataset: datasets.Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Captions the evaluation split and measures the captions; logged as `eval/<metric>`, and `best/` kept."""
        dataset: Any = eval_dataset or self.eval_dataset
        if dataset is None:
            raise ValueError("evaluation needs a validation split: set val_split, or eval_strategy: no")
        started = time.perf_counter()
        captions = self.caption(dataset)
        references = {row["image_id"]: row["references"] for row in dataset.select_columns(["image_id", "references"])}
        scored = {name: references[name] for name in captions}
        metrics = evaluate_captions(captions, scored, java=False)
        measured = {f"{metric_key_prefix}/{name}": value for name, value in metrics.items()}
        self.log({**measured, "time/evaluate": time.perf_counter() - started})
        if self.is_world_process_zero():
            path = self.run_dir / "captions" / f"{metric_key_prefix}-{self.state.global_step:06d}.json"
            run_directory.write_json(path, captions)
            self._describe_pictures(dataset, metric_key_prefix)
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        if metric_key_prefix == "eval":
            self._keep_best(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, prefixed)
        return prefixed

    def _describe_pictures(self, dataset: datasets.Dataset, prefix: str) -> None:
        """Keeps with the run what its captions are of, once a start."""
        if prefix not in self._described:
            columns = [name for name in ("image_id", "image", "frames", "references") if name in dataset.column_names]
            write_pictures(pictures_file(self.run_dir, prefix), dataset.select_columns(columns))
            self._described.add(prefix)

    def caption(self, dataset: datasets.Dataset) -> dict[str, str]:
        """Captions of all pictures of a dataset, image_id -> caption; ranks share the work."""
        args = self.args
        shard = dataset.shard(num_shards=args.world_size, index=args.process_index, contiguous=True)
        loader = DataLoader(
            shard,
            batch_size=args.per_device_eval_batch_size,
            collate_fn=VisualCollator(self.captioner.preprocessor, self.features),
            num_workers=args.dataloader_num_workers,
        )
        counter = BadImageCounter(len(shard), args.max_bad_images)
        generation = GenerationSettings(
            max_new_tokens=args.eval_max_new_tokens,
            num_beams=args.eval_num_beams,
            length_penalty=args.eval_length_penalty,
        )
        bar = self.is_world_process_zero() and not args.disable_tqdm
        with self.accelerator.autocast():
            own = caption_all(self.captioner, loader, generation, counter.extend, bar=bar)
        return dict(gather_object(list(own.items())))

    def _keep_best(self, metrics: dict[str, float]) -> None:
        """Saves the captioner as `best/` when the chosen metric has gained, and stops the run when it long has not."""
        name = str(self.args.metric_for_best_model)
        if name not in metrics:
            raise ValueError(f"metric_for_best_model is {name!r}; evaluation measures {', '.join(sorted(metrics))}")
        value, sign = metrics[name], 1 if self.args.greater_is_better else -1
        best = self.best["value"]
        if best is None or sign * (value - best) > self.args.early_stopping_threshold:
            self.best = {"metric": name, "value": value, "step": self.state.global_step, "without_gain": 0}
            self.save_captioner(self.run_dir / "best")
        else:
            self.best["without_gain"] += 1
            patience = self.args.early_stopping_patience
            if patience is not None and self.best["without_gain"] >= patience:
                self.control.should_training_stop = True

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
            self._show_samples()
        super().log(logs, start_time)
        if self.is_world_process_zero():
            run_directory.append_metrics(self.run_dir / "metrics.jsonl", self.state.global_step, logs)

    def _show_samples(self) -> None:
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, WandbCallback):  # its run is open on the main process alone
                callback.log_samples(self.state.global_step, self.last_records)

    def will_show_samples(self, steps: int = 1) -> bool:
        """Whether one of the next steps ends in a log that has a table to show samples in."""
        args, done = self.args, self.state.global_step
        logged = args.logging_strategy == "epoch" or any(
            (args.logging_first_step and step == 1)
            or (args.logging_strategy == "steps" and step % self.state.logging_steps == 0)
            for step in range(done + 1, done + 1 + steps)
        )
        return logged and any(isinstance(callback, WandbCallback) for callback in self.callback_handler.callbacks)

    # Checkpoints

    def save_captioner(self, directory: Path) -> None:
        """Writes the captioner and its card into a folder that appears whole or not at all; Hugging Face layout."""
        if self.args.should_save:
            with checkpoints.whole_directory(directory) as unfinished:
                self.captioner.save_pretrained(unfinished)
                model_card.write_card(unfinished, self._card())
        self.accelerator.wait_for_everyone()

    def _card(self) -> str:
        """The card of the captioner as it is now, with the last evaluation of the run."""
        step = self.state.global_step
        described = run_directory.read_run(self.run_dir) or {"settings": settings_of(self.args)}
        evaluations = evaluation_records(run_directory.read_metrics(self.run_dir / "metrics.jsonl"))
        evaluated_at = max(evaluations, default=None)
        return model_card.model_card(
            described,
            name=str(self.args.run_name or self.run_dir.resolve().name),
            step=step,
            results={} if evaluated_at is None else evaluations[evaluated_at],
            evaluated_at=evaluated_at,
            defaults=default_settings(type(self.args)),
        )

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.args.should_save:  # transformers calls this on all ranks
            # LoRA apart: merged and split again, a run would not go on from the same bits.
            self.captioner.save_pretrained(str(output_dir), merge_lora=False)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_to or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """transformers' checkpoint and ours beside it, renamed into place once everything is written."""
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        self._saving_to = self.run_dir / f"saving{checkpoints.UNFINISHED}"
        written = self._saving_to / name
        if self.args.should_save:
            shutil.rmtree(self._saving_to, ignore_errors=True)  # what a kill left there
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            state = {"best": self.best, "means": self.means.state(), "bad_images": list(self.bad_images.bad.items())}
            if self._batches is not None:
                state["stream"] = {"position": self._batches.state(), "rows_seen": self._rows_seen}
            run_directory.write_json(written / f"rlcap_state_{self.args.process_index}.json", state)
            self.accelerator.wait_for_everyone()
        finally:
            self._saving_to = None
        if self.args.should_save:
            checkpoints.publish(written, self.run_dir / name)
            shutil.rmtree(written.parent)
            checkpoints.rotate(self.run_dir, self.args.checkpoints_kept, self.state.global_step)
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(self.run_dir / name))
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Puts back the weights and what a checkpoint keeps beside them; drops later lines of `metrics.jsonl`."""
        saved = captioners.load(resume_from_checkpoint)
        self.captioner.load_state_dict(saved.state_dict())
        path = Path(resume_from_checkpoint) / f"rlcap_state_{self.args.process_index}.json"
        state = json.loads(path.read_text(encoding="utf-8"))
        self.best = state["best"]
        self.means.restore(state["means"])
        if "stream" in state:
            self._stream_start, self._rows_seen = state["stream"]["position"], state["stream"]["rows_seen"]
            self.bad_images.total = max(self.bad_images.total, self._rows_seen)
        self.bad_images.extend(state["bad_images"], warn=False)
        if self.is_world_process_zero():
            step = int(Path(resume_from_checkpoint).name.removeprefix(checkpoints.PREFIX))
            run_directory.truncate_metrics(self.run_dir / "metrics.jsonl", step)
