"""The flag with which commands that go on with unfinished work replace what is finished."""

import argparse


def add_overwrite_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --overwrite."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an output that was made with other settings, or that this command did not write",
    )
