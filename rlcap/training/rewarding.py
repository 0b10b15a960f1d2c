"""Rewards of a batch of samples: columns gathered, every reward called once, combined, and noted for the log."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import TrainerState

import rewards
from captioners.types import CaptionTokens
from rewards import Reward
from rewards.pictures import LazyImages
from rlcap.data.collate import is_clip, open_visual
from rlcap.data.content import looked_at
from rlcap.objectives.advantages import group_std
from rlcap.training.running_means import RunningMeans


class Rewarded(NamedTuple):
    """What the rewards said of the captions: their combination and each of them, `[B, K]`, NaN where not scored.

    extra: column -> one value a caption (B*K), what reward functions added by TRL's `log_extra`.
    """

    total: Tensor
    by_name: dict[str, Tensor]
    texts: list[list[str]]
    extra: dict[str, list[Any]]


class Rewarder:
    """Calls reward functions on sampled captions and combines what they say.

    functions: callables of the contract in `rewards`; weights: one number a function; aggregation: `sum`, or
    `group_normalized` (each reward normalised over the captions of its picture first); timeout: seconds that a
    function may take.
    """

    def __init__(
        self, functions: list[Reward], weights: list[float], aggregation: str, timeout: float | None = None
    ) -> None:
        self.functions = functions
        self.weights = weights
        self.aggregation = aggregation
        self.timeout = timeout

    def __call__(
        self,
        batch: dict[str, Any],
        captions: CaptionTokens,
        texts: list[list[str]],
        trainer_state: TrainerState | None = None,
        log_metric: Callable[[str, float], None] = lambda name, value: None,
    ) -> Rewarded:
        """Rewards the captions of a batch of VisualCollator; `texts[b][k]` is the decoded `captions`.

        trainer_state, log_metric: handed on to reward functions, as TRL does.
        """
        k = captions.ids.shape[1]
        columns = _columns(batch, captions)
        if "images" not in batch and any("images" in function.needs for function in self.functions):
            columns["images"] = LazyImages(open_visual, batch["rows"], k)
        extra: dict[str, list[Any]] = {}
        # What TRL hands over beside the dataset's columns; captioners are not prompted here.
        columns |= {"prompts": [""] * len(columns["finished"]), "trainer_state": trainer_state}
        columns |= {"log_extra": extra.__setitem__, "log_metric": log_metric}
        completions = [text for of_image in texts for text in of_image]
        by_name = rewards.score(self.functions, completions, columns, timeout=self.timeout)
        combined = rewards.combine(
            by_name,
            dict(zip(by_name, self.weights, strict=True)),
            group_size=k if self.aggregation == "group_normalized" else None,
            how=self.aggregation,
            completions=completions,
            image_id=columns["image_id"],
        )
        shape = (-1, k)
        return Rewarded(
            torch.as_tensor(combined, dtype=torch.float32).view(shape),
            {name: torch.tensor(_nan_for_none(values)).view(shape) for name, values in by_name.items()},
            texts,
            extra,
        )


def _columns(batch: dict[str, Any], captions: CaptionTokens) -> dict[str, Any]:
    """The dataset's columns, each value K times, and what only the sampling knows."""
    k = captions.ids.shape[1]
    rows = [row for row in batch["rows"] for _ in range(k)]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in batch["rows"][0]}
    if "images" in batch:
        columns["images"] = [image for image in batch["images"] for _ in range(k)]
    columns["is_clip"] = [is_clip(row) for row in rows]
    columns["finished"] = captions.finished.flatten().tolist()
    ids, masks = captions.ids.flatten(0, 1).cpu(), captions.mask.flatten(0, 1).cpu()
    columns["completion_ids"] = [row[mask].tolist() for row, mask in zip(ids, masks, strict=True)]
    return columns


def _nan_for_none(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def note_rewards(means: RunningMeans, rewarded: Rewarded, samples: int) -> None:
    """Adds TRL's names to the running means, over the first `samples` captions of each picture (behind is a baseline).

    `reward`: mean over captions; `reward_std`: mean over pictures of the standard deviation over their captions;
    `frac_reward_zero_std`: pictures whose captions all have one reward, which teach nothing; `rewards/<name>/mean` and
    `/std` (over the pictures' captions, as `reward_std`).
    """
    for name, values in {"": rewarded.total, **rewarded.by_name}.items():
        values = values[:, :samples].double()
        scored = values[~values.isnan()]
        deviations = group_std(values)
        prefix = f"rewards/{name}/" if name else ""
        means.add(f"{prefix}mean" if name else "reward", scored.sum().item(), scored.numel())
        means.add(f"{prefix}std" if name else "reward_std", deviations.sum().item(), deviations.numel())
        if not name:
            means.add("frac_reward_zero_std", (deviations < 1e-8).sum().item(), deviations.numel())


def sample_records(
    batch: dict[str, Any], rewarded: Rewarded, advantage: Tensor, samples: int, greedy: list[str]
) -> list[dict[str, Any]]:
    """What the table of samples shows, a record a sample, of the first pictures, which have a caption in `greedy`."""
    advantages = advantage.cpu().tolist()
    records = []
    for b, greedy_text in enumerate(greedy):
        row, texts = batch["rows"][b], rewarded.texts[b]
        for k in range(samples):
            records.append(
                {
                    "image_id": row["image_id"],
                    "image": looked_at(row)[0],
                    "caption": texts[k],
                    "rewards": {name: values[b, k].item() for name, values in rewarded.by_name.items()},
                    "reward": rewarded.total[b, k].item(),
                    "advantage": advantages[b][k],
                    "greedy": greedy_text,
                    "references": row["references"],
                    "extra": {name: values[b * len(texts) + k] for name, values in rewarded.extra.items()},
                }
            )
    return records
