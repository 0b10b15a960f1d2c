"""Chains of random pictures, and a trainer of ranking-DPO on them, for the tests of training."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from small import Recorder
from tiny import CAPTIONS, pictures

from rlcap.training.ranking_arguments import RankingArguments
from rlcap.training.ranking_dpo import RankingTrainer


def chain_dataset(folder: Path, number: int, most: int = 4) -> Dataset:
    """Random pictures with a chain of 2 to `most` captions each, of different lengths."""
    rows = []
    for index, picture in enumerate(pictures(number)):
        picture.save(folder / f"{index}.png")
        captions = [CAPTIONS[(index + k) % len(CAPTIONS)] for k in range(2 + index % (most - 1))]
        kinds = [("object", "attribute", "")[k % 3] for k in range(len(captions) - 1)]
        row = {"image_id": str(index), "image": str(folder / f"{index}.png"), "split": "train"}
        rows.append({**row, "captions": captions, "kinds": kinds})
    return Dataset.from_list(rows)


def clip_dataset(folder: Path, number: int) -> Dataset:
    """The same chains of clips of 1 to 3 of these pictures."""
    pictures = chain_dataset(folder, number)
    files = pictures["image"]
    frames = [[files[(index + k) % number] for k in range(1 + index % 3)] for index in range(number)]
    return pictures.remove_columns("image").add_column("frames", frames)  # type: ignore[call-arg]


def ranking_trainer(
    captioner: Any, dataset: Dataset, output: Path, recorder: Recorder | None = None, **options: Any
) -> RankingTrainer:
    features, val = options.pop("features", None), options.pop("val", None)
    measuring = options.pop("measuring", ())
    settings = {"max_steps": 2, "per_device_train_batch_size": 3, "learning_rate": 1e-3, "max_grad_norm": 0.0}
    fixed = {"max_caption_length": 24, "eval_max_new_tokens": 8, "eval_num_beams": 1, "logging_steps": 1}
    rest = {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
    args = RankingArguments(output_dir=str(output), **{**settings, **fixed, **rest, **options})
    callbacks = [recorder] if recorder else None
    return RankingTrainer(captioner, args, dataset, val, features=features, eval_rewards=measuring, callbacks=callbacks)
