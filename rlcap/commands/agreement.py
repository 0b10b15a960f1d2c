"""`rlcap agreement`: how far metrics agree with human judgments on a benchmark, as a table, JSON and a plot."""

import argparse
from pathlib import Path
from typing import Any

from rlcap.commands.json_flag import json_object
from rlcap.disk import require_writable


def main(argv: list[str]) -> None:
    """Measures the metrics that the command line names and writes what they brought."""
    arguments = _parser().parse_args(argv)
    if arguments.output:
        require_writable(Path(arguments.output).parent, "the folder of --output,")
    options = json_object(arguments.metric_options, "--metric-options")

    from rlcap.console import console, say
    from rlcap.evaluation.agreement.metrics import resolve, score
    from rlcap.evaluation.agreement.plot import require_matplotlib, write_plot
    from rlcap.evaluation.agreement.readers import Reading, load_benchmark
    from rlcap.evaluation.agreement.statistics import CONFIDENCE
    from rlcap.evaluation.agreement.table import as_markdown, counts, measure_metrics
    from rlcap.evaluation.files import read_references
    from rlcap.tracking.run_directory import library_versions, write_json, write_text

    if arguments.plot:
        require_matplotlib()
    reading = Reading(
        images=None if arguments.images is None else Path(arguments.images),
        references=arguments.references,
        split=arguments.split,
        seed=arguments.protocol_seed,
    )
    only = None if arguments.only_images is None else _ids(Path(arguments.only_images))
    benchmark = load_benchmark(arguments.benchmark, arguments.data, reading, only)
    if arguments.corpus_split is not None and arguments.corpus is None:
        raise ValueError(f"--corpus-split is {arguments.corpus_split!r}: name the --corpus that it is a split of")
    corpus = None if arguments.corpus is None else read_references(arguments.corpus, arguments.corpus_split)
    metrics = resolve(arguments.metric, options, benchmark, corpus)
    scores = score(metrics, benchmark, arguments.batch_size, arguments.workers)
    resamples, seed = arguments.resamples, arguments.seed
    measured = measure_metrics(benchmark, metrics, scores, resamples=resamples, seed=seed)
    table = as_markdown(benchmark, measured, resamples, seed)
    result: dict[str, Any] = {
        "benchmark": {"name": benchmark.name, "protocol": benchmark.protocol, **counts(benchmark)},
        "metrics": {own.label: own.as_json() for own in measured},
        "bootstrap": {"over": "images", "resamples": resamples, "seed": seed, "confidence": CONFIDENCE},
        "settings": vars(arguments),
        "versions": library_versions(),
    }
    if arguments.per_caption:
        result["per_caption"] = [
            {
                "image_id": candidate.image_id,
                "caption": candidate.caption,
                **{label: float(own[row]) for label, own in scores.items()},
            }
            for row, candidate in enumerate(benchmark.candidates)
        ]
    if not (console.quiet and arguments.output):  # without a file the table is what was asked for
        print(table)
    if arguments.output:
        write_json(Path(arguments.output), result)
    if arguments.markdown:
        write_text(Path(arguments.markdown), table)
    if arguments.plot:
        write_plot(Path(arguments.plot), benchmark.name, measured)
    written = [path for path in (arguments.output, arguments.markdown, arguments.plot) if path]
    if written:
        say(f"rlcap: written to {', '.join(written)}")


def _ids(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file of image ids")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _parser() -> argparse.ArgumentParser:
    from rlcap.evaluation.agreement.readers import BENCHMARKS

    parser = argparse.ArgumentParser(
        prog="rlcap agreement",
        description="Kendall τ-b and τ-c and Spearman's ρ with ratings, or accuracy on pairs, by the published "
        "protocol of each benchmark, with bootstrap intervals over pictures.",
        epilog="benchmarks: " + "; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items()),
    )
    parser.add_argument("--benchmark", required=True, choices=list(BENCHMARKS), metavar="NAME", help="see below")
    parser.add_argument("--data", required=True, metavar="DIR|FILE", help="its files as they are published")
    parser.add_argument(
        "--metric",
        required=True,
        nargs="+",
        metavar="NAME",
        help="bleu-1 to bleu-4, meteor, rouge-l, cider-d (pycocoevalcap's), a reward, or LABEL=NAME for a reward that "
        "is there with several options",
    )
    parser.add_argument(
        "--metric-options", "--metric_options", metavar="JSON", help='{"LABEL": {"option": value}} for rewards'
    )
    parser.add_argument("--output", metavar="OUT.json", help="all numbers, and what determined them")
    parser.add_argument("--markdown", metavar="OUT.md", help="the table that is printed")
    parser.add_argument("--plot", metavar="OUT.png", help="png, svg or pdf; needs matplotlib")
    parser.add_argument("--images", metavar="DIR", help="folder of the pictures or videos; default: beside the data")
    parser.add_argument("--only-images", metavar="FILE", help="judge on these pictures alone: an image id a line")
    parser.add_argument(
        "--references", type=int, metavar="N", help="compare with N references; default: the protocol's"
    )
    parser.add_argument(
        "--corpus",
        metavar="FILE",
        help="captions that rewards count words in (idf of EMScore, the reward cider-d): id -> captions, or any source "
        "of captions; default: the benchmark's references",
    )
    parser.add_argument("--corpus-split", metavar="SPLIT", help="the split of --corpus to count in; default: all rows")
    parser.add_argument("--split", help="of a table or JSON lines; default: test, or all")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (default 1000; 0: no intervals)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--protocol-seed", type=int, default=42, help="of Pascal-50S's draws and ties (default 42)")
    parser.add_argument("--batch-size", type=int, default=64, help="captions a call of a reward (default 64)")
    parser.add_argument("--workers", type=int, default=2, help="threads that open pictures (default 2)")
    parser.add_argument("--per-caption", action="store_true", help="write each caption's scores too")
    return parser
