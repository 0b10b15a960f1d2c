"""Stage 1 of MULTI-TAP (arXiv 2510.00766): an LVLM learns ratings of captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rewards.multi_tap import DTYPES, as_dtype
from rewards.multi_tap_model import RatingModel, RatingSettings
from rewards.multi_tap_prompt import PROMPT
from rlcap.console import progress
from rlcap.data.images import open_image
from rlcap.data.judgments import JudgedCaption
from rlcap.evaluation.judged import rating_measures
from rlcap.training.arguments import require
from rlcap.training.judgment_arguments import JudgmentArguments
from rlcap.training.multi_tap_objectives import ALPHAS, FOLDS
from rlcap.training.reward_trainer import RewardArguments, RewardTrainer

TRAINABLE = ("full", "lora", "head")


@dataclass
class MultiTapArguments(JudgmentArguments, RewardArguments):
    """The keys of `rlcap reward multi-tap`."""

    # > Parameters of the data
    rating_range: list[float] | None = field(
        default=None, metadata={"help": "lowest and highest rating of the scale; default: of the training rows"}
    )

    # > Parameters of stage 1
    model: str = field(default="", metadata={"help": "directory or Hub id of an image-text-to-text model"})
    train_weights: str = field(default="full", metadata={"help": "full, lora (peft) or head: what trains"})
    dtype: str = field(
        default="float32",
        metadata={"help": "type of the LVLM's weights; bfloat16 with lora or head. With full use `bf16: true`"},
    )
    prompt: str = field(default=PROMPT, metadata={"help": "the request that the caption answers"})
    lora_rank: int = field(default=16, metadata={"help": "rank of LoRA's matrices"})
    lora_alpha: float = field(default=32.0, metadata={"help": "LoRA is scaled by alpha / rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before LoRA's matrices"})
    lora_targets: list[str] = field(
        default_factory=lambda: ["q_proj", "v_proj"], metadata={"help": "names of the layers that get LoRA"}
    )
    metric_for_best_model: str | None = field(
        default="kendall_c", metadata={"help": "validation measure that chooses `final/`: kendall_c, pearson, loss …"}
    )

    # > Parameters of stage 2
    alphas: list[float] = field(default_factory=lambda: list(ALPHAS), metadata={"help": "ridge penalties to try"})
    folds: int = field(default=FOLDS, metadata={"help": "folds of the cross-validation that chooses the penalty"})
    tolerance: float = field(default=0.5, metadata={"help": "a prediction this near to the rating is accurate"})

    def __post_init__(self) -> None:
        if self.greater_is_better is None:
            self.greater_is_better = self.metric_for_best_model not in ("loss", "mae")
        super().__post_init__()
        self.check_judgments()
        require(bool(self.model), "model", self.model, "an image-text-to-text model (--model DIR|ID)")
        require(self.train_weights in TRAINABLE, "train_weights", self.train_weights, f"one of {', '.join(TRAINABLE)}")
        require(self.dtype in DTYPES, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(
            self.train_weights != "full" or self.dtype == "float32",
            "dtype",
            self.dtype,
            "float32 with train_weights full: small steps are lost in short weights; compute in bfloat16 by bf16: true",
        )
        scale = self.rating_range
        require(
            scale is None or (len(scale) == 2 and scale[0] < scale[1]),
            "rating_range",
            scale,
            "two numbers, the lower one first",
        )
        require(self.lora_rank > 0, "lora_rank", self.lora_rank, "1 or more")
        require(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "above 0")
        require(0 <= self.lora_dropout < 1, "lora_dropout", self.lora_dropout, "0 or more and below 1")
        require(bool(self.alphas) and min(self.alphas) > 0, "alphas", self.alphas, "penalties above 0")
        require(self.folds >= 2, "folds", self.folds, "2 or more")
        require(self.tolerance > 0, "tolerance", self.tolerance, "above 0")


class RatedCollator:
    """Rated captions as inputs of the model, `labels` [B] on [0, 1], and `rows` for messages.

    Raises ValueError for a broken picture.
    """

    def __init__(self, model: RatingModel) -> None:
        self.prompt, self.settings, self.dtype = model.prompt, model.settings, model.lvlm.dtype

    def __call__(self, rows: Sequence[JudgedCaption]) -> dict[str, Any]:
        pictures = [[open_image(path) for path in row.pictures] for row in rows]
        inputs = as_dtype(self.prompt(pictures, [row.caption for row in rows]), self.dtype)
        labels = torch.tensor([self.settings.scaled(row.rating) for row in rows])
        named = [{"image_id": row.image_id, "caption": row.caption, "rating": row.rating} for row in rows]
        return {**inputs, "labels": labels, "rows": named}


class MultiTapTrainer(RewardTrainer):
    """Mean squared error of the rating on the scale [0, 1]."""

    args: MultiTapArguments

    def __init__(
        self,
        model: RatingModel,
        args: MultiTapArguments,
        train_rows: Sequence[JudgedCaption],
        eval_rows: Sequence[JudgedCaption] | None = None,
    ) -> None:
        super().__init__(
            model,
            args,
            data_collator=RatedCollator(model),
            train_dataset=list(train_rows),
            eval_dataset=None if eval_rows is None else list(eval_rows),
            compute_metrics=lambda found: rating_measures(found.predictions, found.label_ids),
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Squared error, averaged over the batch; with `return_outputs` the ratings [B] too."""
        labels = inputs["labels"]
        ratings = model(**_of_model(inputs))
        loss = nn.functional.mse_loss(ratings, labels.to(ratings.dtype))
        return (loss, {"ratings": ratings}) if return_outputs else loss


def _of_model(batch: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in batch.items() if name not in ("labels", "rows")}


def rating_scale(rows: Sequence[JudgedCaption], given: Sequence[float] | None) -> tuple[float, float]:
    """The ends of the scale: as given, or the lowest and the highest training rating.

    Raises ValueError where a rating is outside of the given scale, or all ratings are the same.
    """
    lowest, highest = min(row.rating for row in rows), max(row.rating for row in rows)
    if given is None:
        if lowest == highest:
            raise ValueError(f"every training caption is rated {lowest:g}: there is nothing to learn")
        return lowest, highest
    if lowest < given[0] or highest > given[1]:
        raise ValueError(f"rating_range is {list(given)}, and the data has ratings from {lowest:g} to {highest:g}")
    return given[0], given[1]


def new_model(args: MultiTapArguments, train_rows: Sequence[JudgedCaption]) -> RatingModel:
    """The base model with a new head, and what trains of it."""
    lowest, highest = rating_scale(train_rows, args.rating_range)
    settings = RatingSettings(args.prompt, lowest, highest, args.model)
    model = RatingModel.create(args.model, settings=settings, dtype=DTYPES[args.dtype])
    model.lvlm.requires_grad_(False)
    if args.train_weights == "full":
        model.lvlm.base_model.requires_grad_(True)  # all that an embedding depends on; not the vocabulary's logits
    elif args.train_weights == "lora":
        model.add_lora(args.lora_targets, args.lora_rank, args.lora_alpha, args.lora_dropout)
    return model


@torch.inference_mode()
def embed_all(
    model: RatingModel, rows: Sequence[JudgedCaption], batch_size: int, workers: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, H] and ratings [N] on [0, 1] of rated captions, by a model that does not change."""
    model.eval()
    collate: Callable[..., Any] = RatedCollator(model)
    loader: DataLoader = DataLoader(list(rows), batch_size=batch_size, collate_fn=collate, num_workers=workers)  # type: ignore[arg-type]
    embeddings, ratings = [], []
    for batch in progress(loader, desc="embedding", unit="batch", leave=False):
        inputs = {name: value.to(model.device) for name, value in _of_model(batch).items()}
        embedded = model.embed(**inputs)
        embeddings.append(embedded.cpu().numpy())
        ratings.append(model.rate(embedded).cpu().numpy())
    return np.concatenate(embeddings), np.concatenate(ratings)
