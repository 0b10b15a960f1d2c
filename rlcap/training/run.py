"""From a recipe to a finished run: data, captioner, trainer, resume, and the folder that is left behind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, set_seed

import captioners
import rewards
from captioners.base import Captioner
from captioners.grid_transformer import GridTransformer, GridTransformerConfig
from captioners.grids import require_grid
from captioners.weights import fingerprint
from rewards import Reward
from rlcap.console import say, warn
from rlcap.data import load_captions, require_references
from rlcap.data.captions import LOOKED_AT
from rlcap.data.content import BadImage, looked_at, readable
from rlcap.data.features import FeatureStore
from rlcap.data.source_kind import kind_of
from rlcap.data.stream import CaptionStream
from rlcap.data.write_features import stored_features
from rlcap.failures import under_way
from rlcap.launching import process_group
from rlcap.tracking import run_directory
from rlcap.training import checkpoints, told_to_stop
from rlcap.training.arguments import CaptionerArguments, CaptionerTrainingArguments, DataArguments, settings_of
from rlcap.training.captioner_trainer import CaptionerTrainer
from rlcap.training.parts import parts_table
from rlcap.training.resumable import ResumableTrainer
from rlcap.training.scst_arguments import SCSTArguments

if TYPE_CHECKING:
    from rlcap.training.reward_trainer import RewardArguments

# What may differ between a run and the command that goes on with it: how long, how it is watched, where it runs.
MAY_CHANGE = {
    *("output_dir", "num_train_epochs", "max_steps", "early_stopping_patience", "early_stopping_threshold"),
    *("report_to", "run_name", "disable_tqdm", "log_level", "samples_logged", "sample_checkers", "save_total_limit"),
    *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_persistent_workers", "picture_timeout"),
    *("reward_timeout", "ddp_broadcast_buffers"),
}


def load_splits(
    data: DataArguments, evaluated: bool
) -> tuple[datasets.Dataset | CaptionStream, datasets.Dataset | None]:
    """The training rows, and the validation rows, all with references, where the run is evaluated.

    With `shuffle_buffer` the training rows are a stream.
    """
    read: dict[str, Any] = {
        "drop_empty": data.drop_empty_captions,
        "columns": data.columns,
        "video_frames": data.video_frames,
    }
    options = {"format": data.data_format, "check_images": data.features is None, **read}
    train: datasets.Dataset | CaptionStream
    if data.shuffle_buffer is not None:
        if kind_of(data.data, data.data_format) != "tar":
            raise ValueError(f"shuffle_buffer streams tar shards, and {data.data} is none: leave it out")
        train = CaptionStream(data.data, buffer=data.shuffle_buffer, split=data.train_split, **read)
    else:
        train = load_captions(data.data, images=data.images, split=data.train_split, **options)
        train = _first(train, data.max_train_images)
    if not evaluated:
        return train, None
    source, images = data.val_data or data.data, data.val_images or (None if data.val_data else data.images)
    val = _first(load_captions(source, images=images, split=data.val_split, **options), data.max_val_images)
    require_references(val)
    return train, val


def _first(dataset: datasets.Dataset, count: int | None) -> datasets.Dataset:
    return dataset if count is None else dataset.select(range(min(count, len(dataset))))


def require_training_references(train: datasets.Dataset | CaptionStream) -> None:
    """Raises ValueError naming training rows without references; those of a stream are looked at as they come."""
    if isinstance(train, datasets.Dataset):
        require_references(train)


def require_pictures(train: datasets.Dataset | CaptionStream) -> None:
    """Raises ValueError where none of the first pictures is there: with stored features they were not looked for."""
    if isinstance(train, CaptionStream):
        return
    missing = []
    for row in train.select(range(min(LOOKED_AT, len(train)))):
        try:
            readable(looked_at(row)[0])
            return
        except BadImage as error:
            missing.append(str(error))
    raise ValueError(f"the rewards look at pictures, and none of the first is there (--images DIR): {missing[0]}")


def references_of(train: datasets.Dataset | CaptionStream) -> Mapping[str, list[str]]:
    """image_id -> references of the training rows."""
    if isinstance(train, CaptionStream):
        return train.references()
    return {row["image_id"]: row["references"] for row in train.select_columns(["image_id", "references"])}


def open_features(
    data: DataArguments,
    captioner: Captioner,
    freeze: list[str],
    used: Sequence[datasets.Dataset | CaptionStream | None],
) -> FeatureStore | None:
    """The grid features the recipe names; ValueError where they are another model's or pictures are missing."""
    if data.features is None:
        return None
    if "vision" not in freeze:
        raise ValueError("features are of a vision model that does not change: add vision to freeze (--freeze vision)")
    datasets_used = [dataset for dataset in used if isinstance(dataset, datasets.Dataset)]
    return stored_features(data.features, require_grid(captioner), *datasets_used)


def load_captioner(arguments: CaptionerArguments, train: datasets.Dataset | CaptionStream, seed: int) -> Captioner:
    """The captioner the recipe names, or a new grid transformer on its vision model, initialised from the seed."""
    if arguments.captioner is not None:
        return captioners.load(
            arguments.captioner,
            max_frames=arguments.max_frames if arguments.max_frames > 1 else None,
            prompt=arguments.prompt,
        )
    set_seed(seed)
    sizes = {f.name: getattr(arguments, f.name) for f in fields(GridTransformerConfig) if hasattr(arguments, f.name)}
    captions = [caption for references in references_of(train).values() for caption in references]
    return GridTransformer.create(str(arguments.vision), captions, GridTransformerConfig(**sizes))


def load_rewards(args: SCSTArguments, train: datasets.Dataset | CaptionStream) -> list[Reward]:
    """The recipe's rewards; those that take their statistics from a corpus get the training references."""
    corpus = references_of(train)
    options = args.reward_options or {}
    assert isinstance(options, dict)
    return [rewards.load(name, corpus=corpus, **options.get(name, {})) for name in args.rewards]


def load_eval_rewards(
    args: CaptionerTrainingArguments, train: datasets.Dataset | CaptionStream, described: dict[str, Any]
) -> list[Reward]:
    """The rewards that measure validation; what they are is added to what describes the run. See `load_rewards`."""
    if not args.eval_rewards or args.eval_strategy == "no":
        return []
    corpus, options = references_of(train), args.eval_reward_options or {}
    assert isinstance(options, dict)
    loaded = [rewards.load(name, corpus=corpus, **options.get(name, {})) for name in args.eval_rewards]
    described["evaluated_by"] = [rewards.describe(function) for function in loaded]
    return loaded


def describe(data: DataArguments, arguments: CaptionerArguments, captioner: Captioner) -> dict[str, Any]:
    """What determines a run beside its trainer's arguments: the data, and the captioner that it starts from."""
    described = settings_of(data) | settings_of(arguments)
    if arguments.captioner is not None:
        described["captioner_weights"] = fingerprint([captioner])
    return described


def trackers(args: "CaptionerTrainingArguments | RewardArguments") -> list[TrainerCallback]:
    """The callbacks that `report_to` asks for, with our names for the scalars."""
    callbacks: list[TrainerCallback] = []
    if "wandb" in args.trackers:
        from rlcap.tracking.wandb_callback import WandbCallback

        callbacks.append(WandbCallback(Path(str(args.output_dir))))
    if "tensorboard" in args.trackers:
        from rlcap.tracking.tensorboard_callback import TensorBoardCallback

        callbacks.append(TensorBoardCallback(Path(str(args.output_dir))))
    return callbacks


def train(trainer: CaptionerTrainer, command: str, described: dict[str, Any]) -> Path:
    """Trains, or goes on from the last complete checkpoint, and leaves `final/` in the run's folder, which it returns.

    `described`: what determines the run beside its arguments (data, captioner, rewards), for `run.json`.
    Raises ValueError where the folder holds a run with other settings, or of another number of processes, Stopped where
    it was told to stop.
    """
    args, run_dir = trainer.args, trainer.run_dir
    # The prompt that is used, which may be the captioner's own.
    settings = {**described, **settings_of(args), "prompt": trainer.captioner.prompt}
    resume = begin(trainer, settings)
    if trainer.is_world_process_zero():
        run_directory.write_run(run_dir, command=command, settings=settings, seed=args.seed)
        say(parts_table(trainer.captioner, args))
        say(f"device {args.device}, {args.world_size} process(es), {torch.get_num_threads()} threads")
        if resume is not None:
            say(f"rlcap: going on from {resume}")
    told_to_stop.train(trainer, resume, can_save=trainer.can_save)
    with under_way():
        trainer.save_captioner(run_dir / "final")
        if args.push_to_hub:
            trainer.push_to_hub()
    skipped = len(set(gather_object(list(trainer.training_rows.bad_images.bad))))
    if skipped and trainer.is_world_process_zero():
        warn(f"{skipped} training picture(s) were skipped: they could not be decoded")
    return run_dir


def train_to_end(trainer: CaptionerTrainer, command: str, described: dict[str, Any]) -> None:
    """Does what `train` does, and says on the first process where the captioners are."""
    run_dir = train(trainer, command, described)
    if trainer.is_world_process_zero():
        kept = " and ".join(f"{name}/" for name in ("best", "final") if (run_dir / name).is_dir())
        say(f"rlcap: done; see {kept} of {run_dir}")


def begin(trainer: ResumableTrainer, settings: dict[str, Any]) -> Path | None:
    """The checkpoint that a run goes on from, None where it begins; called on all ranks, which fail together.

    Raises ValueError where the folder holds a run with other settings, or of another number of processes.
    """
    process_group.by_first(lambda: refuse_another_run(trainer.run_dir, settings))
    resume = checkpoints.last_complete(trainer.run_dir)
    if resume is not None:
        checkpoints.require_processes(resume, trainer.args.world_size)
    return resume


def refuse_another_run(run_dir: Path, settings: dict[str, Any]) -> None:
    """Raises ValueError naming the settings, but those of MAY_CHANGE, that differ from those of the run in a folder."""
    previous = run_directory.read_run(run_dir)
    if previous is None or not run_directory.has_begun(run_dir):
        return
    before, settings = previous["settings"], json.loads(json.dumps(settings))
    changed = [
        f"{key}: {before.get(key)!r} there, {value!r} now"
        for key, value in settings.items()
        if key not in MAY_CHANGE and before.get(key) != value
    ]
    if changed:
        raise ValueError(
            f"{run_dir} holds a run with other settings ({'; '.join(changed)}). Choose another "
            "output_dir, give the same settings to go on, or remove the folder"
        )
