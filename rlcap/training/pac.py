"""PAC-S++ training (arXiv 2410.07336): a dual encoder by InfoNCE on real pairs and generated positives."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rewards.dual_encoder import DualEncoder
from rlcap.console import progress
from rlcap.data.images import BadImageCounter
from rlcap.evaluation.retrieval import retrieval
from rlcap.launching.workers import stay_with_rank
from rlcap.objectives.contrastive import info_nce
from rlcap.training.ended_run import out_of_patience
from rlcap.training.gathering import gather_rows
from rlcap.training.pac_arguments import PacArguments
from rlcap.training.pac_batches import PairCollator
from rlcap.training.pac_model import PacModel, mean_of_frames
from rlcap.training.randomness import seed_of
from rlcap.training.reward_trainer import RewardTrainer

MOST_SCALE = 100.0  # CLIP's bound on the inverse temperature; others, such as SigLIP, begin above it


class PacTrainer(RewardTrainer):
    """L(V, T) + λ_v L(V', T) + λ_t L(V, T'), each a symmetric InfoNCE over the rows of all ranks.

    Each step draws one reference T of a picture, and one of its generated captions T'. Rows that have no generated
    picture V', or caption, are left out of that term alone.

    collators: of training rows, and of rows to be measured. generated_captions: image_id -> captions.
    """

    args: PacArguments

    def __init__(
        self,
        model: PacModel,
        args: PacArguments,
        train_dataset: datasets.Dataset,
        eval_dataset: datasets.Dataset | None,
        *,
        collator: PairCollator,
        generated_captions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(model, args, data_collator=collator, train_dataset=train_dataset, eval_dataset=eval_dataset)
        self.add_callback(_BoundScale(model.encoder))
        self.generated_captions = generated_captions or {}
        self.lambda_v, self.lambda_t = args.weights()
        self.bad_images = BadImageCounter(math.ceil(len(train_dataset) / args.world_size), args.max_bad_images)

    # One step

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The sum of the three terms over the pairs of all ranks, which is the same on each of them."""
        assert not return_outputs, "evaluation is of its own; it never asks for outputs"
        self.bad_images.extend(inputs["bad"])
        rows = inputs["rows"]
        if not rows:
            raise ValueError("no picture of a whole batch can be decoded:\n" + self.bad_images.listing())
        drawn = [self._draw(row["references"], row["image_id"], "reference") for row in rows]
        described = [number for number, row in enumerate(rows) if self.generated_captions.get(row["image_id"])]
        described = described if self.lambda_t else []
        ids = (rows[number]["image_id"] for number in described)
        drawn += [self._draw(self.generated_captions[image_id], image_id, "generated") for image_id in ids]
        bare: PacModel = self._bare()
        seen, read, scale = model(inputs["pictures"], bare.texts_of(self._prefixed(drawn)))
        with torch.autocast(seen.device.type, enabled=False):
            frames = int(inputs["frames"].sum())
            pictures, captions = mean_of_frames(seen[:frames], inputs["frames"]), read[: len(rows)]
            terms = {"loss/real": (1.0, pictures, captions)}
            if self.lambda_v:
                terms["loss/generated_pictures"] = (self.lambda_v, seen[frames:], captions[inputs["generated"]])
            if self.lambda_t:
                terms["loss/generated_captions"] = (self.lambda_t, pictures[described], read[len(rows) :])
            loss = scale.new_zeros(())
            for name, (weight, own_pictures, own_captions) in terms.items():
                everyone = gather_rows(own_pictures), gather_rows(own_captions)
                if len(everyone[0]):
                    term = info_nce(*everyone, scale)
                    self.means.add(name, float(term.detach()))
                    loss = loss + weight * term
        self.means.add("temperature", 1 / float(scale.detach()))
        return loss

    def _draw(self, captions: Sequence[str], image_id: str, purpose: str) -> str:
        return captions[seed_of(self.args.seed, self.state.global_step, image_id, purpose) % len(captions)]

    def _prefixed(self, captions: Sequence[str]) -> list[str]:
        prefix = self.args.prefix.rstrip()
        return [f"{prefix} {caption}" if prefix else caption for caption in captions]

    def checkpoint_state(self) -> dict[str, Any]:
        """Adds the pictures that could not be decoded."""
        return {**super().checkpoint_state(), "bad_images": list(self.bad_images.bad.items())}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        super().restore_state(state)
        self.bad_images.extend(state["bad_images"], warn=False)

    # Validation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measures the validation split, logged as `eval/<measure>`; stops the run when it long has not gained."""
        measured = self.measure(eval_dataset or self.eval_dataset)
        self.log({f"{metric_key_prefix}/{name}": value for name, value in measured.items()})
        prefixed = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, prefixed)
        return prefixed

    def measure(self, dataset: datasets.Dataset) -> dict[str, float]:
        """Retrieval over a split with all references, and `loss` of real pairs, the first reference of each picture.

        The loss is the mean over batches of `per_device_eval_batch_size` in the order of the rows: it depends on that
        size. Ranks share the encoding.
        """
        own = dataset.shard(num_shards=self.args.world_size, index=self.args.process_index, contiguous=True)
        with self._measuring() as model:
            pictures, captions, picture_of = self._encode(model, own)
            parts = gather_object([(pictures.numpy(), captions.numpy(), picture_of.numpy())])
            starts = np.cumsum([0, *(len(part[0]) for part in parts)])
            pictures, captions = (torch.from_numpy(np.concatenate([part[i] for part in parts])) for i in (0, 1))
            picture_of = torch.from_numpy(
                np.concatenate([part[2] + start for part, start in zip(parts, starts, strict=False)])
            )
            first = torch.searchsorted(picture_of, torch.arange(len(pictures)))
            size = self.args.per_device_eval_batch_size
            batches = list(zip(pictures.split(size), captions[first].split(size), strict=True))
            losses = [info_nce(*batch, model.encoder.logit_scale.exp().cpu()).item() for batch in batches]
        weights = [len(batch[0]) for batch in batches]
        return {**retrieval(pictures, captions, picture_of), "loss": float(np.average(losses, weights=weights))}

    def _encode(self, model: PacModel, dataset: datasets.Dataset) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of pictures [V, D] and of all references [C, D], and the row of each caption's picture [C]."""
        collator: Any = self.data_collator
        size = self.args.per_device_eval_batch_size
        loader: DataLoader = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_size=size,
            collate_fn=PairCollator(collator.preprocess, collator.vectors),
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=stay_with_rank,
        )
        bad = BadImageCounter(len(dataset), self.args.max_bad_images)
        seen: list[Tensor] = []
        captions: list[str] = []
        picture_of: list[int] = []
        quiet = self.args.disable_tqdm or not self.is_world_process_zero()
        for batch in progress(loader, desc="pictures", unit="batch", leave=False, disable=quiet):
            bad.extend(batch["bad"])
            if batch["pictures"] is None:
                continue
            for row in batch["rows"]:
                picture_of += [picture_of[-1] + 1 if picture_of else 0] * len(row["references"])
                captions += row["references"]
            vectors = model.see(batch["pictures"].to(model.encoder.device))
            seen.append(mean_of_frames(vectors, batch["frames"]).cpu())
        batches = [self._prefixed(captions[start : start + size]) for start in range(0, len(captions), size)]
        read = [
            model.read(model.texts_of(batch)).cpu()
            for batch in progress(batches, desc="captions", unit="batch", leave=False, disable=quiet)
        ]
        return torch.cat(seen), torch.cat(read), torch.tensor(picture_of)

    @contextmanager
    def _measuring(self) -> Iterator[PacModel]:
        model: PacModel = self._bare()
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), self.accelerator.autocast():
                yield model
        finally:
            model.train(was_training)

    # The end

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if self.stopped_early() is not None:
            self.control.should_training_stop = True
        return is_best

    def stopped_early(self) -> str | None:
        """That as many evaluations as the patience came after the best one."""
        metric, best = self.args.metric_for_best_model, self.state.best_global_step
        if best is None:
            return None
        since = sum(f"eval/{metric}" in line and line["step"] > best for line in self.state.log_history)
        return out_of_patience(self.args.early_stopping_patience, since, metric, best)


class _BoundScale(TrainerCallback):
    """Keeps the inverse temperature at 100 or less, as CLIP does: between steps, so that it can fall again.

    An encoder that has a higher one before it is tuned is kept at that.
    """

    def __init__(self, encoder: DualEncoder) -> None:
        self.most = max(math.log(MOST_SCALE), float(encoder.logit_scale.detach()))

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        encoder = model.encoder
        with torch.no_grad():
            encoder.logit_scale.clamp_(max=self.most)
