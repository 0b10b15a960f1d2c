"""Validation during training: captions of a split are generated and measured, and the best captioner is kept."""

import math
import time
from collections.abc import Sequence
from typing import Any

import datasets
from accelerate.utils import gather_object

from captioners.base import Captioner
from captioners.types import GenerationSettings
from rewards import Reward
from rlcap.captioning import caption_all
from rlcap.data.features import FeatureStore
from rlcap.evaluation.metrics import evaluate_captions
from rlcap.tracking import run_directory
from rlcap.tracking.evaluated_pictures import pictures_file, write_pictures
from rlcap.training.arguments import CaptionerTrainingArguments
from rlcap.training.ended_run import out_of_patience
from rlcap.training.eval_rewards import reward_means
from rlcap.training.out_of_memory import advised
from rlcap.training.saving import SavingTrainer


class ValidatingTrainer(SavingTrainer):
    """Evaluates by generating captions, keeps the best captioner as `best/`, and stops where it no longer gains.

    features: grid features written by `rlcap features`; pictures are then not opened.
    eval_rewards: rewards that measure the captions too; they may open pictures.
    """

    def __init__(
        self,
        captioner: Captioner,
        args: CaptionerTrainingArguments,
        *,
        features: FeatureStore | None = None,
        eval_rewards: Sequence[Reward] = (),
        **options: Any,
    ) -> None:
        super().__init__(captioner, args, **options)
        self.features = features
        self.eval_rewards = eval_rewards
        self.best: dict[str, Any] = {"value": None, "step": None, "without_gain": 0}
        self._described: set[str] = set()  # evaluations whose pictures have been written

    # What subclasses say

    def pictures_of(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """The rows of an evaluation split that are captioned: `image_id`s that differ, with `references`."""
        return dataset

    def other_measures(self, dataset: datasets.Dataset) -> dict[str, float]:
        """What else is measured on an evaluation split, beside its captions: name -> value; called on all ranks."""
        return {}

    # The evaluation

    def evaluate(
        self,
        eval_dataset: datasets.Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Captions the evaluation split and measures it; logged as `eval/<metric>`, and `best/` kept."""
        dataset: Any = eval_dataset or self.eval_dataset
        if dataset is None:
            raise ValueError("evaluation needs a validation split: set val_split, or eval_strategy: no")
        started = time.perf_counter()
        pictures = self.pictures_of(dataset)
        captions = self.caption(pictures)
        references = {row["image_id"]: row["references"] for row in pictures.select_columns(["image_id", "references"])}
        scored = {name: references[name] for name in captions}
        metrics = evaluate_captions(captions, scored, java=False) | self.other_measures(dataset)
        metrics |= reward_means(self.eval_rewards, captions, pictures, self.args)
        measured = {f"{metric_key_prefix}/{name}": value for name, value in metrics.items()}
        self.log({**measured, "time/evaluate": time.perf_counter() - started})
        if self.is_world_process_zero():
            path = self.run_dir / "captions" / f"{metric_key_prefix}-{self.state.global_step:06d}.json"
            run_directory.write_json(path, captions)
            self._describe_pictures(pictures, metric_key_prefix)
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        if metric_key_prefix == "eval":
            self._keep_best(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, prefixed)
        return prefixed

    def caption(self, dataset: datasets.Dataset) -> dict[str, str]:
        """Captions of all pictures of a dataset, image_id -> caption; ranks share the work."""
        args = self.args
        # Equally many on each rank, which may have to run the same layers: the last picture fills up.
        each = math.ceil(len(dataset) / args.world_size)
        own = range(args.process_index * each, (args.process_index + 1) * each)
        shard = dataset.select([min(index, len(dataset) - 1) for index in own])
        generation = GenerationSettings(
            max_new_tokens=args.eval_max_new_tokens,
            num_beams=args.eval_num_beams,
            length_penalty=args.eval_length_penalty,
        )
        keys = ("per_device_eval_batch_size", "eval_num_beams", "eval_max_new_tokens")
        with self.accelerator.autocast(), advised(args, keys):
            captions = caption_all(
                self.captioner,
                shard,
                generation,
                features=self.features,
                batch_size=args.per_device_eval_batch_size,
                workers=args.dataloader_num_workers,
                max_bad_images=args.max_bad_images,
                bar=self.is_world_process_zero() and not args.disable_tqdm,
            )
        return dict(gather_object(list(captions.items())))

    def stopped_early(self) -> str | None:
        """That the captioner has long not gained."""
        args = self.args
        patience, since = args.early_stopping_patience, self.best["without_gain"]
        return out_of_patience(patience, since, args.metric_for_best_model, self.best["step"])

    def checkpoint_state(self) -> dict[str, Any]:
        """Adds which captioner was the best so far."""
        return {**super().checkpoint_state(), "best": self.best}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        super().restore_state(state)
        self.best = state["best"]

    def _describe_pictures(self, dataset: datasets.Dataset, prefix: str) -> None:
        """Keeps with the run what its captions are of, once a start."""
        if prefix not in self._described:
            columns = [name for name in ("image_id", "image", "frames", "references") if name in dataset.column_names]
            write_pictures(pictures_file(self.run_dir, prefix), dataset.select_columns(columns))
            self._described.add(prefix)

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
            if self.stopped_early() is not None:
                self.control.should_training_stop = True
