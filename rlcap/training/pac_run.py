"""From a recipe to a trained dual encoder in a folder, with what it was measured at."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed

from rewards.dual_encoder import DualEncoder
from rewards.dual_encoder_loading import load_dual_encoder
from rewards.fingerprint import fingerprint
from rewards.transformers_encoder import TransformersEncoder
from rlcap.console import say
from rlcap.data import load_captions, require_references
from rlcap.data.features import FeatureStore
from rlcap.positives.manifest import PICTURES_FILE, generated_captions, generated_pictures
from rlcap.tracking.run_directory import write_json
from rlcap.training import reward_trainer
from rlcap.training.arguments import DataArguments, settings_of
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
    _require_a_batch(train, args)
    test = _test_split(data, args)
    if test is not None:
        require_references(test)
    set_seed(args.seed)  # new projections and LoRA's matrices are drawn
    encoder = load_encoder(args).to(args.device)
    described = {**settings_of(data), "encoder_weights": fingerprint(encoder)}
    towers = ("vision", "text") if args.towers == "both" else (args.towers,)
    tuned = tune(
        encoder, args.tune, towers, Lora(args.lora_rank, args.lora_alpha, args.lora_dropout, args.lora_targets)
    )
    splits = {"train": train, "val": val, "test": test}
    positives = _positives(args, train)
    store = generated_store = None
    if "vision" not in tuned:
        store = _vectors(encoder, data, args, [own for own in splits.values() if own])
        splits = {name: own and _without(own, store) for name, own in splits.items()}
        generated_store = _generated_vectors(encoder, args, positives.pictures)
    trainer = PacTrainer(
        PacModel(encoder, tuned, args.dropout_off, _record(args, described)),
        args,
        splits["train"],
        splits["val"],
        collator=PairCollator(encoder.preprocess, store, positives.pictures, generated_store),
        generated_captions=positives.captions,
    )
    final = reward_trainer.train(trainer, "reward pac", described)
    _measure(trainer, final, {name: own for name, own in splits.items() if own and name != "train"})
    return final


@dataclass(frozen=True)
class _Positives:
    """image_id -> generated captions, and the file of a generated picture; empty where their weight is 0."""

    captions: dict[str, list[str]]
    pictures: dict[str, str]


def _positives(args: PacArguments, train: datasets.Dataset) -> _Positives:
    lambda_v, lambda_t = args.weights()
    captions = generated_captions(Path(str(args.generated_captions))) if lambda_t else {}
    pictures = generated_pictures(Path(str(args.generated_pictures))) if lambda_v else {}
    ids = train["image_id"]
    for source, made in ((args.generated_captions, captions), (args.generated_pictures, pictures)):
        if made:
            known = sum(image_id in made for image_id in ids)
            if not known:
                raise ValueError(
                    f"{source} has nothing for any of the {len(ids)} training pictures: is it of other data?"
                )
            say(f"rlcap: {source} has positives for {known} of {len(ids)} training pictures")
    used = set(ids)
    return _Positives(captions, {image_id: file for image_id, file in pictures.items() if image_id in used})


def _record(args: PacArguments, described: dict[str, Any]) -> dict[str, Any]:
    """What the saved encoder says of its training."""
    lambda_v, lambda_t = args.weights()
    lora = {"rank": args.lora_rank, "alpha": args.lora_alpha, "merged": True} if args.tune == "lora" else None
    return {
        "from": {"encoder": args.encoder, "checkpoint": args.checkpoint, "vision": args.vision, "text": args.text},
        "from_weights": described["encoder_weights"],
        "data": described["data"],
        "tune": args.tune,
        "towers": args.towers,
        "lora": lora,
        "prefix": args.prefix,
        "lambda_v": lambda_v,
        "lambda_t": lambda_t,
        "seed": args.seed,
    }


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


def _require_a_batch(train: datasets.Dataset, args: PacArguments) -> None:
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and len(train) < batch:
        raise ValueError(
            f"per_device_train_batch_size is {args.per_device_train_batch_size}, on {args.world_size} process(es) "
            f"{batch} pictures a step; there are {len(train)} training pictures, and dataloader_drop_last leaves out "
            "what fills no batch. Lower the batch size"
        )


def _vectors(
    encoder: DualEncoder, data: DataArguments, args: PacArguments, splits: list[datasets.Dataset]
) -> FeatureStore:
    every = datasets.concatenate_datasets(splits)
    if data.features is not None:
        return grid_features(encoder, str(args.vision or args.encoder), every, data.features)
    return _written(encoder, every, args, _vectors_folder(args))


def _generated_vectors(encoder: DualEncoder, args: PacArguments, pictures: dict[str, str]) -> FeatureStore | None:
    if not pictures:
        return None
    rows = datasets.Dataset.from_dict({"image_id": list(pictures), "image": list(pictures.values())})
    # Apart for each set of generated pictures, which share their ids with the real ones.
    manifest = Path(str(args.generated_pictures)) / PICTURES_FILE
    name = f"generated-{hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]}"
    return _written(encoder, rows, args, _vectors_folder(args) / name)


def _vectors_folder(args: PacArguments) -> Path:
    return Path(args.picture_vectors or Path(str(args.output_dir)) / "vectors")


def _written(encoder: DualEncoder, rows: datasets.Dataset, args: PacArguments, folder: Path) -> FeatureStore:
    return picture_vectors(
        encoder,
        rows,
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
    report: dict[str, Any] = {"weights": fingerprint(trained.encoder)}
    report["temperature"] = 1 / float(trained.encoder.logit_scale.detach().exp())
    for name, rows in splits.items():
        report[name] = {"pictures": len(rows), **trainer.measure(rows)}
    if trainer.is_world_process_zero():
        write_json(Path(str(trainer.args.output_dir)) / "report.json", report)
        for name in splits:
            say(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in report[name].items()))
        say(f"rlcap: done; rewards.load('pac-s++', backbone='{final}') scores with it")
