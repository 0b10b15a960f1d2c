"""`rlcap data check`: what a data set holds, and what is wrong with it."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.near import require_subcommand

if TYPE_CHECKING:
    from rlcap.data.check import Report


def main(argv: list[str]) -> None:
    """Checks a source, prints what was found; exit code 1 where something is wrong with it."""
    require_subcommand("data", argv, ["check"])
    arguments = _parser().parse_args(argv)

    from dataclasses import asdict
    from functools import partial

    from tqdm import tqdm

    from rlcap.data import load_captions
    from rlcap.data.check import BATCH, check

    dataset = load_captions(
        arguments.source,
        images=arguments.images,
        split=arguments.split,
        check_images=not arguments.captions_only,
        drop_empty=None,
        **reading_options(arguments),
    )
    report = check(
        dataset,
        pictures=not arguments.captions_only,
        decode=arguments.decode,
        workers=arguments.workers,
        progress=partial(
            tqdm,
            desc=f"looking at {BATCH} rows a batch",
            unit="batch",
            total=-(-len(dataset) // BATCH),
            disable=arguments.quiet,
            leave=False,
        ),
    )
    _print(report)
    if arguments.output:
        from rlcap.tracking.run_directory import write_json

        write_json(Path(arguments.output), {**asdict(report), "ok": report.ok})
    if arguments.grid:
        from rlcap.data.contact_sheet import contact_sheet

        columns, rows = arguments.grid_size
        shown = contact_sheet(dataset, Path(arguments.grid), columns, rows, arguments.seed)
        print(f"rlcap: {shown} of {len(dataset)} rows are shown in {arguments.grid}")
    if not report.ok:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rlcap data", description="Looks at a data set before it is trained on.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check")
    check = commands.add_parser(
        "check",
        help="counts, lengths, broken and repeated pictures, leaks between splits",
        description="Counts rows and captions; finds pictures that are broken, missing or there twice, rows without "
        "references, and references that splits share. Exit code 0: nothing is wrong; 1: something is.",
    )
    check.add_argument("source", metavar="SOURCE", help="a caption file, a data set of `datasets`, or tar shards")
    check.add_argument("--images", metavar="DIR", help="folder of its pictures; default: beside it")
    check.add_argument("--split", help="only this split; default: all")
    check.add_argument("--decode", action="store_true", help="decode all of every file; default: header and ends")
    check.add_argument("--captions-only", action="store_true", help="look at no picture")
    check.add_argument("--workers", type=int, default=0, help="processes that look at pictures")
    check.add_argument("--output", metavar="OUT.json", help="where the findings go beside the screen")
    check.add_argument("--grid", metavar="OUT.png", help="draw pictures with their captions")
    check.add_argument(
        "--grid-size", type=int, nargs=2, default=(6, 4), metavar=("COLUMNS", "ROWS"), help="default 6 4"
    )
    check.add_argument("--seed", type=int, default=0, help="which pictures are drawn (default 0)")
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    add_column_flags(check)
    return parser


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(show_edge=False)
    table.add_column("split", no_wrap=True)
    for split in report.splits:
        table.add_column(split, justify="right")
    for name in next(iter(report.splits.values())):
        values = (measures[name] for measures in report.splits.values())
        table.add_row(name, *(f"{value:,.1f}" if value % 1 else f"{value:,.0f}" for value in values))
    console.print(table)
    lines = [
        f"{overlap['captions']:,} captions of split {overlap['of']} ({overlap['share']:.1%}) stand word for word in "
        f"{overlap['in']}" + (f', such as "{overlap["examples"][0]}"' if overlap["examples"] else "")
        for overlap in report.overlaps
    ]
    for finding in report.findings:
        lines.append(f"WRONG: {finding.count:,} {finding.what}")
        lines.extend(f"  {example}" for example in finding.examples)
        if finding.count > len(finding.examples):
            lines.append(f"  and {finding.count - len(finding.examples):,} more")
    lines.append("nothing is wrong" if report.ok else f"{len(report.findings)} kinds of things are wrong")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
