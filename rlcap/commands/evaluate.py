"""`rlcap evaluate`: captions against references, as a table and a JSON file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.disk import require_writable

if TYPE_CHECKING:
    from rlcap.evaluation import Evaluation
    from rlcap.launching.processes import Processes


def main(argv: list[str]) -> None:
    """Scores the captions that the command line names, prints a table and writes the JSON file."""
    arguments = _parser().parse_args(argv)
    if arguments.output:
        require_writable(Path(arguments.output).parent, "the folder of --output,")

    from rlcap.console import console, say
    from rlcap.evaluation import score_captions
    from rlcap.evaluation.files import read_predictions, read_references, read_training_captions
    from rlcap.launching.processes import Processes
    from rlcap.tracking.run_directory import library_versions, write_json

    processes = Processes.of_launcher()
    if processes.number > 1 and processes.first:
        say(f"rlcap: {processes.number} processes share the captions")
    predictions = read_predictions(Path(arguments.predictions))
    reading = reading_options(arguments)
    references = read_references(arguments.references, arguments.split, **reading)
    training = None
    if arguments.train_captions:
        training = read_training_captions(arguments.train_captions, arguments.train_split, **reading)
    notes: list[str] = []
    counts = {"predictions": len(predictions), "references": len(references)}
    if arguments.allow_missing:
        predictions, references, notes = _common(predictions, references)
    elif predictions.keys() != references.keys():
        _refuse(predictions, references)
    evaluation = score_captions(
        predictions,
        references,
        java=False if arguments.no_java else "auto",
        training_captions=training,
        grammar_head=arguments.grammar_head,
        retrieved=None if arguments.retrieval_encoder is None else _retrieved(arguments, predictions, processes),
        metrics=arguments.metrics,
        processes=processes,
    )
    if not processes.first:
        return
    evaluation.notes[:0] = notes
    if not (console.quiet and arguments.output):  # without a file the table is what was asked for
        _print(evaluation)
    if arguments.output:
        result: dict[str, Any] = {
            **evaluation.metrics,
            "counts": {**counts, "scored": len(predictions)},
            "notes": evaluation.notes,
            "settings": vars(arguments),
            "versions": library_versions(),
        }
        if arguments.per_caption:
            result["per_caption"] = {
                key: {"caption": predictions[key], **values} for key, values in evaluation.per_caption.items()
            }
        write_json(Path(arguments.output), result)
        say(f"rlcap: written to {arguments.output}")


def _common(
    predictions: dict[str, str], references: dict[str, list[str]]
) -> tuple[dict[str, str], dict[str, list[str]], list[str]]:
    """Both sides cut to the pictures that have a caption and references, and a note on those left out."""
    from rlcap.evaluation.metrics import describe_ids

    scored = [key for key in predictions if references.get(key)]
    if not scored:
        raise ValueError(
            f"no picture has both a caption and references: the predictions begin with {list(predictions)[:3]}, the "
            f"references with {list(references)[:3]}"
        )
    notes = [
        f"left out: {describe_ids(left)} {why}"
        for why, left in (
            ("without references", [key for key in predictions if not references.get(key)]),
            ("without a prediction", [key for key in references if key not in predictions]),
        )
        if left
    ]
    return {key: predictions[key] for key in scored}, {key: references[key] for key in scored}, notes


def _refuse(predictions: dict[str, str], references: dict[str, list[str]]) -> None:
    from rlcap.evaluation.metrics import describe_ids

    unknown = [key for key in predictions if key not in references]
    missing = [key for key in references if key not in predictions]
    raise ValueError(
        f"predictions and references are of different pictures: {describe_ids(unknown)} without references, "
        f"{describe_ids(missing)} without a prediction. Name the split of the references (--split test), or score "
        "the pictures that have both (--allow-missing)"
    )


def _retrieved(
    arguments: argparse.Namespace, predictions: dict[str, str], processes: "Processes"
) -> dict[str, list[float]]:
    from rewards.clip_features import Features
    from rewards.dual_encoder_loading import load_dual_encoder
    from rlcap.data import load_captions
    from rlcap.evaluation.retrieval import caption_hits
    from rlcap.evaluation.scoring import TableRow
    from rlcap.launching import world

    rows = load_captions(
        arguments.references,
        images=arguments.images,
        split=arguments.split,
        check_images=False,
        drop_empty=True,
        **reading_options(arguments),
    )
    features = Features(
        load_dual_encoder(arguments.retrieval_encoder),
        device=world.device(None),
        autocast=None,
        batch_size=64,
        capacity=0,
    )
    visuals = {image_id: TableRow(rows, number) for number, image_id in enumerate(rows["image_id"])}
    return caption_hits(features, predictions, visuals, arguments.retrieval_prefix, processes)


def _print(evaluation: "Evaluation") -> None:
    from rich.console import Console
    from rich.table import Table

    from rlcap.evaluation import METRICS

    table = Table(show_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("what it is")
    for key, value in evaluation.metrics.items():
        whole = key in ("vocabulary", "captions")
        digits = 4 if key.startswith(("distinct_", "rep_")) else 2
        table.add_row(key, f"{value:,.0f}" if whole else f"{value:.{digits}f}", METRICS[key])
    console = Console()
    console.print(table)
    for note in evaluation.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def _parser() -> argparse.ArgumentParser:
    from rlcap.evaluation.grammar.languagetool_server import SETTING
    from rlcap.evaluation.metrics import FAMILIES

    parser = argparse.ArgumentParser(
        prog="rlcap evaluate",
        description="Scores one caption a picture against its references. cider is pycocoevalcap's, times 100, without "
        "the end of a caption; the reward cider-d of `rlcap score` is in 0 to 10 and counts the end. Captions are "
        "PTB-tokenised as pycocoevalcap does it; METEOR needs Java, which `pip install 'rlcap[coco]'` brings. "
        "Processes started by torchrun share grammar checkers, grammar head and dual encoder; the first one does the "
        "rest, prints and writes.",
        epilog="families of metrics: " + "; ".join(f"{name}: {', '.join(keys)}" for name, keys in FAMILIES.items()),
    )
    parser.add_argument(
        "--predictions",
        required=True,
        metavar="FILE",
        help="JSON id -> caption, a COCO results list, or JSON lines with image_id and caption",
    )
    parser.add_argument(
        "--references",
        required=True,
        metavar="FILE",
        help="JSON id -> list of captions, JSON lines, a COCO captions file or a Karpathy file (no pictures needed), a "
        "data set of `datasets`, or tar shards",
    )
    parser.add_argument("--split", help="the split of the references, in files that have splits")
    parser.add_argument("--output", metavar="OUT.json", help="where the results go beside the table")
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"families or keys; default: all that can be, LanguageTool where {SETTING} is set",
    )
    parser.add_argument(
        "--train-captions", metavar="FILE", help="for novel_share: a references file, or .txt with one caption a line"
    )
    parser.add_argument("--train-split", default="train", help="its split, in files that have splits (default train)")
    parser.add_argument(
        "--grammar-head", metavar="DIR", help="for grammar_probability: a folder written by `rlcap reward grammar`"
    )
    parser.add_argument(
        "--retrieval-encoder",
        metavar="BACKBONE",
        help="for retrieval_1 …: a dual encoder as the reward clip-s takes it; needs pictures beside the references",
    )
    parser.add_argument("--images", metavar="DIR", help="folder of these pictures; default: beside the references")
    parser.add_argument(
        "--retrieval-prefix",
        default="A photo depicts",
        metavar="TEXT",
        help='laid before captions that are encoded (default: "A photo depicts")',
    )
    parser.add_argument("--no-java", action="store_true", help="leave out METEOR and SPICE, which need Java")
    parser.add_argument("--allow-missing", action="store_true", help="score only the pictures that both sides have")
    add_column_flags(parser)
    parser.add_argument("--per-caption", action="store_true", help="write each caption's own scores too")
    return parser
