"""The comparative scorer on Flickr8k-Expert: objectives, numbers of pairs and their selection, three seeds each.

    python benchmarks/comparative.py --data flickr8k --picture-encoder resnet50-imagenet \
        --sentence-encoder all-MiniLM-L6-v2 --output runs/comparative

The 1,000 pictures are split 650 / 150 / 200 once; seeds differ in weights, pairs, batches and dropout. Every run has
the same budget of steps, whatever its number of pairs, and keeps the weights with the best Spearman correlation on
validation. `blind`: pictures shuffled, in training too. What is finished is not trained again. Prints the tables of
docs/results.md (test split, mean and standard deviation over seeds), and draws agreement against the number of pairs.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rewards.comparative.encoders import PictureEncoder, SentenceEncoder
from rlcap.console import say
from rlcap.evaluation.judged import agreement
from rlcap.tracking.run_directory import write_json
from rlcap.training.comparative import HeadTraining
from rlcap.training.comparative_arguments import ComparativeArguments
from rlcap.training.comparative_run import describe, draw, load_vectors, measure
from rlcap.training.comparative_vectors import JudgedVectors

NUMBERS = (1, 2, 3, 5, 10, 20)
VARIANTS: dict[str, dict[str, Any]] = {
    "regression, MSE": {"loss": "mse"},
    "regression, MAE": {"loss": "mae"},
    "regression, MAE + sign penalty": {"loss": "mae_sign"},
    "regression, MAE + tanh penalty": {"loss": "mae_tanh"},
    **{f"hinge, N = {n}": {"loss": "hinge", "pairs_per_caption": n} for n in NUMBERS},
    "Bradley-Terry, N = 10": {"loss": "bradley_terry", "pairs_per_caption": 10},
    "hinge, active, N = 1": {"loss": "hinge", "pairs": "active", "pairs_per_caption": 1},
    "hinge, active, N = 5": {"loss": "hinge", "pairs": "active", "pairs_per_caption": 5},
    "hinge, hard, N = 5": {"loss": "hinge", "pairs": "hard", "pairs_per_caption": 5},
    "hinge, pairs of one picture": {"loss": "hinge", "pairs": "same_image", "pairs_per_caption": 20},
    "blind: regression, MSE": {"loss": "mse"},
    "blind: hinge, N = 20": {"loss": "hinge", "pairs_per_caption": 20},
}
UNSEEN = ("regression, MSE", "hinge, N = 20")
MEASURES = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall_b": "τ-b",
    "kendall_c": "τ-c",
    "pair_accuracy": "pairs %",
    "same_image_pair_accuracy": "same picture %",
}
ERRORS = ("constant", "score", "linear", "isotonic")


def settings(arguments: argparse.Namespace) -> ComparativeArguments:
    """What all variants share: a head of 256 and 128, up to 20 looks at validation with 15 steps of 256 between."""
    return ComparativeArguments(
        data=arguments.data,
        output_dir=arguments.output,
        split=[650, 150, 200],
        picture_encoder=arguments.picture_encoder,
        sentence_encoder=arguments.sentence_encoder,
        features=str(Path(arguments.output) / "features"),
        picture_features=arguments.picture_features,
        hidden=[256, 128],
        dropout=[0.3, 0.2],
        batch_size=256,
        steps_per_epoch=15,
        epochs=20,
        patience=5,
        decay_steps=None,
        rounds=5,
        use_cpu=not arguments.gpu,
    )


def train(name: str, seed: int, base: ComparativeArguments, splits: dict[str, JudgedVectors], folder: Path) -> None:
    """Trains a variant, unless its measures are there, and writes them."""
    file = folder / f"{name} {seed}.json"
    if file.is_file():
        return
    if name.startswith("blind"):
        splits = {split: blind(vectors, seed) for split, vectors in splits.items()}
    training = HeadTraining(splits["train"], splits["val"], replace(base, seed=seed, **VARIANTS[name]))
    training.run(quiet=True)
    report = measure(training, splits)
    write_json(file, {"pairs_per_caption": training.args.pairs_per_caption, "seed": seed, **report})
    say(f"{name}, seed {seed}: {describe(report['test'])}")


def blind(vectors: JudgedVectors, seed: int) -> JudgedVectors:
    """The same judgments with another picture's vector for each picture: what captions alone give away."""
    order = torch.randperm(len(vectors.pictures), generator=torch.Generator().manual_seed(seed))
    return replace(vectors, pictures=vectors.pictures[order])


def unseen_captions(
    name: str, seed: int, base: ComparativeArguments, splits: dict[str, JudgedVectors], folder: Path
) -> None:
    """Trains without a fifth of the caption texts, and measures on the test rows that have them; `seen`: with them."""
    file = folder / f"unseen {name} {seed}.json"
    if file.is_file():
        return
    texts = sorted({text for vectors in splits.values() for text in texts_of(vectors)})
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    held_out = {texts[place] for place in order[: len(texts) // 5]}
    test = rows_of(splits["test"], held_out, True)
    train = {"seen": splits["train"], "unseen": rows_of(splits["train"], held_out, False)}
    report: dict[str, Any] = {"captions": len(test)}
    for which, vectors in train.items():
        training = HeadTraining(vectors, splits["val"], replace(base, seed=seed, **VARIANTS[name]))
        training.run(quiet=True)
        report[which] = agreement(training.scores(test), test.ratings, test.picture_of.numpy())
    write_json(file, report)


def texts_of(vectors: JudgedVectors) -> list[bytes]:
    """What tells the caption of each row from others, whatever the split: its vector."""
    return [vectors.sentences[place].numpy().tobytes() for place in vectors.sentence_of.tolist()]


def rows_of(vectors: JudgedVectors, texts: set[bytes], inside: bool) -> JudgedVectors:
    """The rows whose caption is among the texts, or those whose caption is not."""
    kept = torch.tensor([(text in texts) is inside for text in texts_of(vectors)])
    own = vectors.picture_of[kept], vectors.sentence_of[kept], vectors.ratings[kept.numpy()]
    return replace(vectors, picture_of=own[0], sentence_of=own[1], ratings=own[2])


def unseen_table(seeds: list[int], folder: Path) -> str:
    """Agreement on captions that were in training with other pictures, or were not."""
    lines = ["| test rows of a fifth of the texts | " + " | ".join(MEASURES.values()) + " | captions |"]
    lines.append("|---" * (len(MEASURES) + 2) + "|")
    for name in UNSEEN:
        reports = measured(f"unseen {name}", seeds, folder)
        for which in ("seen", "unseen") if reports else ():
            values = {m: [r[which][m] * (100 if m.endswith("accuracy") else 1) for r in reports] for m in MEASURES}
            cells = " | ".join(_cell(own, m) for m, own in values.items())
            lines.append(f"| {name}, {which} | {cells} | {statistics.mean(r['captions'] for r in reports):.0f} |")
    return "\n".join(lines)


def measured(name: str, seeds: list[int], folder: Path) -> list[dict[str, Any]]:
    """The measures of a variant's seeds that are done."""
    files = [folder / f"{name} {seed}.json" for seed in seeds]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def tables(seeds: list[int], folder: Path) -> str:
    """Agreement, pairs and calibrated errors of all variants as Markdown."""
    first = ["| test split | " + " | ".join(MEASURES.values()) + " | pairs | asked | seeds |"]
    first.append("|---" * (len(MEASURES) + 4) + "|")
    second = ["| MAE on test, rating points | " + " | ".join(ERRORS) + " |", "|---" * (len(ERRORS) + 1) + "|"]
    for name in VARIANTS:
        reports = measured(name, seeds, folder)
        if not reports:
            continue
        cells = [_cell([r["test"][m] * (100 if m.endswith("accuracy") else 1) for r in reports], m) for m in MEASURES]
        for key in ("pairs", "pairs_asked"):
            used = [report["training"].get(key) for report in reports]
            cells.append("" if None in used else f"{statistics.mean(used):,.0f}")
        first.append(f"| {name} | " + " | ".join(cells) + f" | {len(reports)} |")
        known = [[r["errors"][kind]["mae"] for r in reports if kind in r["errors"]] for kind in ERRORS]
        second.append(f"| {name} | " + " | ".join(_cell(values, "mae") if values else "" for values in known) + " |")
    return "\n".join([*first, "", *second])


def _cell(values: list[float], measure_name: str) -> str:
    digits = 1 if measure_name.endswith("accuracy") else 3
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def main() -> None:
    """Runs the campaign and shows it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with ExpertAnnotations.txt, the captions and images")
    parser.add_argument("--picture-encoder", required=True, help="directory or Hub id")
    parser.add_argument("--sentence-encoder", required=True, help="directory or Hub id")
    parser.add_argument("--picture-features", help="folder of `rlcap features` of the picture encoder")
    parser.add_argument("--output", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--gpu", action="store_true", help="on a GPU; default: on the CPU")
    parser.add_argument("--only-show", action="store_true", help="the tables and the curve of what is there")
    arguments = parser.parse_args()
    folder = Path(arguments.output)
    if not arguments.only_show:
        base = settings(arguments)
        encoders = (
            PictureEncoder.from_pretrained(base.picture_encoder),
            SentenceEncoder.from_pretrained(base.sentence_encoder),
        )
        splits = load_vectors(base, *encoders)
        for seed in arguments.seeds:  # seed by seed: a campaign that is stopped early has all variants
            for name in VARIANTS:
                train(name, seed, base, splits, folder / "runs")
            for name in UNSEEN:
                unseen_captions(name, seed, base, splits, folder / "runs")
    print(tables(arguments.seeds, folder / "runs"), unseen_table(arguments.seeds, folder / "runs"), sep="\n\n")
    points = [report for n in NUMBERS for report in measured(f"hinge, N = {n}", arguments.seeds, folder / "runs")]
    regression = measured("regression, MSE", arguments.seeds, folder / "runs")
    level = {m: statistics.mean(r["test"][m] for r in regression) for m in MEASURES}
    draw(points, folder / "curve.png", {"regression": level})


if __name__ == "__main__":
    main()
