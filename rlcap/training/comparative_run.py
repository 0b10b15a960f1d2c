"""From a recipe to a comparative scorer in a folder, with what it was measured at."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rewards.comparative import calibration
from rewards.comparative.calibration import Calibration
from rewards.comparative.encoders import PictureEncoder, SentenceEncoder
from rewards.comparative.scorer import Scorer
from rlcap.console import say
from rlcap.data.judgments import SPLITS, Judgments, read_judgments, split_by_picture
from rlcap.evaluation.agreement.plot import require_matplotlib
from rlcap.evaluation.correlations import TITLES
from rlcap.evaluation.judged import agreement, errors
from rlcap.tracking import run_directory
from rlcap.training import checkpoints
from rlcap.training.arguments import settings_of
from rlcap.training.comparative import HeadTraining
from rlcap.training.comparative_arguments import ComparativeArguments
from rlcap.training.comparative_vectors import JudgedVectors, picture_store, sentence_vectors, vectors_of
from rlcap.training.run import refuse_another_run
from rlcap.training.scikit_learn import require_scikit_learn

# What says nothing about the result: where things are kept, and what is drawn beside the run.
_NOT_SETTINGS = ("use_cpu", "features", "picture_features", "save_epochs", "curve", "curve_seeds")


def load_vectors(
    args: ComparativeArguments, pictures: PictureEncoder, sentences: SentenceEncoder
) -> dict[str, JudgedVectors]:
    """Reads the judgments, splits them by picture, and encodes what is not encoded yet; split -> vectors.

    Raises ValueError where validation has ratings, to which scores will be mapped, and scikit-learn is missing.
    """
    judgments = split_by_picture(read_judgments(args.data, args.data_format, args.images), args.split, args.split_seed)
    if all(caption.ratings for caption in judgments.of("val").captions):
        require_scikit_learn("calibration")
    used = [caption for caption in judgments.captions if caption.split in SPLITS]
    folder = Path(args.features or Path(args.output_dir) / "features")
    store = picture_store(
        pictures.to(args.device),
        used,
        folder / "pictures",
        grids=args.picture_features,
        batch_size=args.encoding_batch_size,
        max_bad_images=args.max_bad_images,
    )
    known = sentence_vectors(
        sentences.to(args.device),
        [caption.caption for caption in used],
        folder / "captions.safetensors",
        lowercase=args.lowercase,
        batch_size=args.encoding_batch_size,
    )
    parts = {split: judgments.of(split) for split in SPLITS}
    say("  ".join(f"{split}: {_counts(part)}" for split, part in parts.items()))
    return {split: vectors_of(part, store, args.picture_pooling, known) for split, part in parts.items()}


def _counts(judgments: Judgments) -> str:
    pictures = len({caption.image_id for caption in judgments.captions})
    compared = f", {len(judgments.preferences):,} preferences" if judgments.preferences else ""
    return f"{pictures:,} pictures, {len(judgments.captions):,} captions{compared}"


def measure(training: HeadTraining, splits: dict[str, JudgedVectors]) -> dict[str, Any]:
    """Agreement with people on validation and test, and errors of calibrated scores on test.

    `errors`: of the mean rating of the training captions (`constant`), of the scores as they are where they were
    trained on ratings (`score`), and of the maps fitted on validation.
    """
    rounded = training.args.round_ratings
    scores = {split: training.scores(splits[split]) for split in ("val", "test")}
    report: dict[str, Any] = {
        split: agreement(
            own, splits[split].ratings, splits[split].picture_of.numpy(), splits[split].preferences, rounded=rounded
        )
        for split, own in scores.items()
    }
    state = training.state
    report["training"] = {"best_epoch": state.best_epoch, "epochs": state.epoch, "steps": state.step}
    if training.args.on_pairs:
        report["training"] |= {"pairs": len(training.pairs), "pairs_asked": state.asked}
    test = splits["test"]
    if any(np.isnan(splits[split].ratings).any() for split in SPLITS):
        return report
    predicted = {"constant": np.full(len(test), splits["train"].ratings.mean())}
    if not training.args.on_pairs:
        predicted["score"] = scores["test"]
    predicted |= {kind: own(scores["test"]) for kind, own in calibrate(training, splits["val"]).items()}
    report["errors"] = {name: errors(values, test.ratings) for name, values in predicted.items()}
    return report


def calibrate(training: HeadTraining, val: JudgedVectors) -> dict[str, Calibration]:
    """The maps of the head's scores to ratings, fitted on validation; none where it has no ratings."""
    if np.isnan(val.ratings).any():
        return {}
    scores = training.scores(val)
    return {kind: calibration.fit(kind, scores, val.ratings) for kind in calibration.KINDS}


def run(args: ComparativeArguments) -> dict[str, Any]:
    """Trains, measures and saves: `final/` is the scorer, `report.json` what it was measured at, which is returned.

    With `curve` it then trains a head for each number of pairs and seed, into `curve.json` and `curve.png`.
    Raises ValueError where the folder holds a run with other settings, and where a library is missing that the end of
    the run needs.
    """
    if args.curve:
        require_matplotlib()
    run_dir = Path(args.output_dir)
    pictures = PictureEncoder.from_pretrained(args.picture_encoder, args.picture_pooling)
    sentences = SentenceEncoder.from_pretrained(args.sentence_encoder, args.sentence_pooling)
    settings = {key: value for key, value in settings_of(args).items() if key not in _NOT_SETTINGS}
    settings |= {"picture_weights": pictures.fingerprint(), "sentence_weights": sentences.fingerprint()}
    refuse_another_run(run_dir, settings)
    run_directory.write_run(run_dir, command="reward comparative", settings=settings, seed=args.seed)
    splits = load_vectors(args, pictures, sentences)
    training = HeadTraining(splits["train"], splits["val"], args, run_dir)
    head = training.run()
    report = measure(training, splits)
    run_directory.write_json(run_dir / "report.json", report)
    maps = calibrate(training, splits["val"])
    with checkpoints.whole_directory(run_dir / "final") as folder:
        Scorer(pictures, sentences, head, args.lowercase, maps, {**settings, "test": report["test"]}).save(folder)
    if args.curve:
        curve(args, splits, settings)
    return report


def curve(args: ComparativeArguments, splits: dict[str, JudgedVectors], settings: dict[str, Any]) -> None:
    """Agreement on test against the number of pairs a caption; points that are there are not trained again."""
    file = Path(args.output_dir) / "curve.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if found.get("settings", settings) != json.loads(json.dumps(settings)):
        raise ValueError(f"{file} was drawn with other settings; remove it")
    points: list[dict[str, Any]] = found.get("points", [])
    done = {(point["pairs_per_caption"], point["seed"]) for point in points}
    for number in args.curve:
        for seed in args.curve_seeds:
            if (number, seed) in done:
                continue
            own = replace(args, pairs_per_caption=number, seed=seed)
            training = HeadTraining(splits["train"], splits["val"], own)
            training.run(quiet=True)
            points.append({"pairs_per_caption": number, "seed": seed, **measure(training, splits)})
            run_directory.write_json(file, {"settings": settings, "points": points})
            say(f"N {number}, seed {seed}: " + describe(points[-1]["test"]))
    chosen = [p for p in points if p["pairs_per_caption"] in args.curve and p["seed"] in args.curve_seeds]
    draw(chosen, file.with_suffix(".png"))


DRAWN = {
    **{name: TITLES[name] for name in ("pearson", "spearman", "kendall_c")},
    "pair_accuracy": "pair accuracy",
    "same_image_pair_accuracy": "pair accuracy, same picture",
}


def draw(points: list[dict[str, Any]], file: Path, levels: dict[str, dict[str, float]] | None = None) -> None:
    """A line a measure against N, mean and standard deviation over seeds.

    levels: label -> measure -> a value to draw as a level line, such as that of regression. Raises ValueError where
    matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    numbers = sorted({point["pairs_per_caption"] for point in points})
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axis, names in zip(figure.subplots(1, 2), (list(DRAWN)[:3], list(DRAWN)[3:]), strict=True):
        for colour, name in enumerate(names):
            values = [[p["test"][name] for p in points if p["pairs_per_caption"] == n] for n in numbers]
            means, spreads = [np.mean(own) for own in values], [np.std(own) for own in values]
            axis.errorbar(numbers, means, spreads, color=f"C{colour}", marker="o", capsize=3, label=DRAWN[name])
            for label, measured in (levels or {}).items():
                axis.axhline(measured[name], color=f"C{colour}", ls=":", lw=1, label=f"{DRAWN[name]}, {label}")
        axis.set_xscale("log")
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.set_xlabel("N, pairs a training caption")
        axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def describe(test: dict[str, float]) -> str:
    """The measures of a split in one line."""
    names = {**DRAWN, "kendall_b": TITLES["kendall_b"], "preference_accuracy": "preferences"}
    return ", ".join(f"{names[name]} {value:.3f}" for name, value in test.items() if name in names)
