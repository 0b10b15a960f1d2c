"""`rlcap quickstart`: the whole way on drawn pictures, in minutes."""

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Draws scenes, trains with XE, SCST and ranking-DPO, prints what they brought."""
    parser = argparse.ArgumentParser(prog="rlcap quickstart", description=__doc__)
    parser.add_argument("--output", default="runs/quickstart", help="folder of the runs (default runs/quickstart)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same table (default 0)")
    parser.add_argument("--report-to", default="none", choices=["none", "wandb", "tensorboard"], help="track the runs")
    arguments = parser.parse_args(argv)

    from rlcap.quickstart import QuickstartSettings, quickstart

    quickstart(QuickstartSettings(Path(arguments.output), seed=arguments.seed, report_to=arguments.report_to))
