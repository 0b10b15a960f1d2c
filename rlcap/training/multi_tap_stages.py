"""What follows stage 1: the best model's embeddings, an objective each fitted on them, and both stages measured."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from rewards.multi_tap_model import RatingModel
from rlcap.console import progress, say
from rlcap.data.content import BadImage
from rlcap.data.images import BadImageCounter, open_image
from rlcap.data.judgments import JudgedCaption, Judgments, read_judgments, split_by_picture
from rlcap.evaluation.judged import rating_measures
from rlcap.tracking.run_directory import write_json
from rlcap.training import checkpoints
from rlcap.training.multi_tap import MultiTapArguments, embed_all
from rlcap.training.multi_tap_objectives import check_objectives, fit_objectives, measure_objectives


def rated_splits(args: MultiTapArguments) -> Judgments:
    """The rated captions that `args` name, split by picture, but for those whose picture cannot be decoded.

    Every picture is decoded once, shared out over the processes: a batch may be a single row, which training could not
    skip. Raises ValueError where the data lacks ratings or a split, where more pictures than `max_bad_images` are bad,
    and for what would stop stage 2 (`check_objectives`).
    """
    judgments = read_judgments(args.data, args.data_format, args.images)
    judgments.require_ratings(args.data)
    needed = ("train",) if args.eval_strategy == "no" else ("train", "val")
    split = split_by_picture(judgments, args.split, args.split_seed, needed).captions
    bad = _bad_pictures(args, {row.image_id: row.pictures for row in split if row.split is not None})
    kept = Judgments([row for row in split if row.image_id not in bad])
    train = kept.of("train").captions
    check_objectives([row.objectives for row in train], [row.image_id for row in train], args.folds)
    return kept


def _bad_pictures(args: MultiTapArguments, pictures: Mapping[str, Sequence[str]]) -> set[str]:
    """The image ids whose pictures cannot be decoded; named and counted."""
    first = args.process_index == 0
    counter = BadImageCounter(len(pictures), args.max_bad_images)
    own = list(pictures.items())[args.process_index :: args.world_size]
    quiet = args.disable_tqdm or not first
    with ThreadPoolExecutor() as pool:
        looked = pool.map(_look, own)
        found = list(progress(looked, total=len(own), desc="pictures", unit="picture", leave=False, disable=quiet))
    told = gather_object([one for one in found if one is not None])
    counter.extend([(path, reason) for _, path, reason in told], warn=first)
    return {image_id for image_id, _, _ in told}


def _look(item: tuple[str, Sequence[str]]) -> tuple[str, str, str] | None:
    image_id, paths = item
    try:
        for path in paths:
            open_image(path)
    except BadImage as error:
        return image_id, error.path, error.reason
    return None


def stage_two(args: MultiTapArguments, directory: Path, rows: Sequence[JudgedCaption]) -> dict[str, Any]:
    """Fits the objectives of the training rows, writes them into the reward's directory, measures every other split.

    Returns split -> {"overall": measures, objective: measures}, which is also `ratings.json` in the run's folder. Data
    without objectives has its overall rating measured alone.
    """
    model = RatingModel.load(directory).to(args.device)
    batch, workers = args.per_device_eval_batch_size, args.dataloader_num_workers
    train = [row for row in rows if row.split == "train"]
    objectives = None
    if any(row.objectives for row in train):
        embeddings, _ = embed_all(model, train, batch, workers)
        targets, pictures = [row.objectives for row in train], [row.image_id for row in train]
        objectives = fit_objectives(embeddings, targets, pictures, args.alphas, args.folds)
        with checkpoints.whole_directory(directory) as unfinished:
            model.save(unfinished)
            objectives.save(unfinished)
    measured: dict[str, Any] = {}
    for split in dict.fromkeys(row.split for row in rows if row.split not in ("train", None)):
        own = [row for row in rows if row.split == split]
        if len(own) < 2:
            continue
        embeddings, ratings = embed_all(model, own, batch, workers)
        measured[split] = {"overall": rating_measures(ratings, [model.settings.scaled(row.rating) for row in own])}
        if objectives is not None:
            measured[split] |= measure_objectives(
                objectives, embeddings, [row.objectives for row in own], args.tolerance
            )
        for name, measures in measured[split].items():
            say(f"{split}, {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in measures.items()))
    write_json(directory.parent / "ratings.json", measured)
    return measured
