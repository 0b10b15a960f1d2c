"""From a recipe to a trained dual encoder in a folder, with what it was measured at."""

import json
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import set_seed

from rewards.dual_encoder import DualEncoder, weights_hash
from rewards.dual_encoder_loading import load_dual_encoder
from rewards.transformers_encoder import TransformersEncoder
from rlcap.console import say
from rlcap.data import load_captions
from rlcap.data.features import FeatureStore
from rlcap.tracking.run_directory import write_json
from rlcap.training import reward_trainer
from rlcap.training.arguments import DataArguments
from rlcap.training.dual_encoder_tuning import Lora, tune
from rlcap.training.pac import PacTrainer
from rlcap.training.pac_arguments import PacArguments
from rlcap.training.pac_batches import PairCollator
from rlcap.training.pac_model import PacModel
from rlcap.training.picture_vectors import grid_features, picture_vectors
from rlcap.training.run import load_splits, require_training_references


def run(data: DataArguments, args: PacArguments) -> Path:
    """Trains, measures and saves: `final/` is the encoder, `report.json` what it was measured at; returns `final/`.

    Raises ValueError where the folder holds a run with other settings.
    """
    train, val = load_splits(data, args.eval_strategy != "no")
    if not isinstance(train, datasets.Dataset):
        raise ValueError("shuffle_buffer streams rows, which negatives and vectors need at hand: leave it out")
    require_training_references(train)
    test = _test_split(data, args)
    set_seed(args.seed)  # new projections and LoRA's matrices are drawn
    encoder = load_encoder(args).to(args.device)
    towers = ("vision", "text") if args.towers == "both" else (args.towers,)
    tuned = tune(
        encoder, args.tune, towers, Lora(args.lora_rank, args.lora_alpha, args.lora_dropout, args.lora_targets)
    )
    splits = {"train": train, "val": val, "test": test}
    store = None if "vision" in tuned else _vectors(encoder, data, args, [own for own in splits.values() if own])
    if store is not None:
        splits = {name: own and _without(own, store) for name, own in splits.items()}
    trainer = PacTrainer(
        PacModel(encoder, tuned, args.dropout_off),
        args,
        splits["train"],
        splits["val"],
        collator=PairCollator(encoder.preprocess, store),
    )
    final = reward_trainer.train(trainer, "reward pac")
    _measure(trainer, final, {name: own for name, own in splits.items() if own and name != "train"})
    return final


def load_encoder(args: PacArguments) -> DualEncoder:
    """The encoder that the recipe names, or a new one of its two models, drawn from torch's seed."""
    if args.encoder is not None:
        return load_dual_encoder(args.encoder, checkpoint=args.checkpoint)
    assert args.vision is not None
    assert args.text is not None
    return TransformersEncoder.from_towers(args.vision, args.text, args.dimensions)


def _test_split(data: DataArguments, args: PacArguments) -> datasets.Dataset | None:
    rows = load_captions(
        data.data,
        images=data.images,
        format=data.data_format,
        check_images=data.features is None,
        drop_empty=data.drop_empty_captions,
        columns=data.columns,
        video_frames=data.video_frames,
    )
    number = [row for row, split in enumerate(rows["split"]) if split == args.test_split]
    return rows.select(number) if number else None


def _vectors(
    encoder: DualEncoder, data: DataArguments, args: PacArguments, splits: list[datasets.Dataset]
) -> FeatureStore:
    every = datasets.concatenate_datasets(splits)
    if data.features is not None:
        return grid_features(encoder, str(args.vision or args.encoder), every, data.features)
    folder = Path(args.picture_vectors or Path(str(args.output_dir)) / "vectors")
    return picture_vectors(
        encoder,
        every,
        folder,
        batch_size=args.per_device_eval_batch_size,
        workers=args.dataloader_num_workers,
        max_bad=args.max_bad_images,
    )


def _without(rows: datasets.Dataset, store: FeatureStore) -> datasets.Dataset:
    bad = store.bad
    return rows.select([number for number, image_id in enumerate(rows["image_id"]) if image_id not in bad])


def _measure(trainer: PacTrainer, final: Path, splits: dict[str, datasets.Dataset]) -> None:
    """Reads `final/` back and measures it: what is told is of the weights that are kept."""
    trained: Any = trainer._bare()
    trained.encoder = load_dual_encoder(final).to(trainer.args.device)
    report: dict[str, Any] = {"weights": weights_hash(trained.encoder)}
    report["temperature"] = 1 / float(trained.encoder.logit_scale.detach().exp())
    for name, rows in splits.items():
        report[name] = {"pictures": len(rows), **trainer.measure(rows)}
    if trainer.is_world_process_zero():
        write_json(Path(str(trainer.args.output_dir)) / "report.json", report)
        for name in splits:
            say(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in report[name].items()))
        say(f"rlcap: done; rewards.load('pac-s++', backbone='{final}') scores with it")
