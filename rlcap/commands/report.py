"""`rlcap report`: runs as one HTML page."""

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Writes the page of the run folders that the command line names."""
    parser = argparse.ArgumentParser(
        prog="rlcap report",
        description="One HTML page, with nothing beside it and no network: curves, validation captions before and "
        "after, settings. Several runs are laid over each other.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders that `rlcap xe`, `scst` or `rank-dpo` has written"
    )
    parser.add_argument("--output", metavar="OUT.html", help="default: report.html in the folder of the last run")
    parser.add_argument("--pictures", type=int, default=60, help="most pictures in the gallery (default 60)")
    arguments = parser.parse_args(argv)

    from rlcap.console import say
    from rlcap.tracking.report import write_report

    folders = [Path(run) for run in arguments.runs]
    output = Path(arguments.output) if arguments.output else folders[-1] / "report.html"
    write_report(folders, output, pictures=arguments.pictures)
    say(f"rlcap: written to {output}")
