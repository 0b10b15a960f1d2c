"""The flags with which commands without a recipe name a data set, as the keys of `DataArguments` do."""

import argparse
from typing import Any


def add_column_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which columns of a source are what, and which frames of a video count."""
    group = parser.add_argument_group("columns of a data set, keys of JSON lines, endings in tar shards")
    group.add_argument("--data-format", default="auto", help="auto, karpathy, coco, jsonl, datasets or tar")
    for name in ("image", "frames", "video"):
        group.add_argument(f"--{name}-column", metavar="NAME", help=f"the {name}; default: the usual names")
    group.add_argument(
        "--references-column", nargs="+", metavar="NAME", help="the captions; json.caption leads into one"
    )
    group.add_argument("--id-column", metavar="NAME", help="the id")
    group.add_argument("--split-column", metavar="NAME", help="the split")
    group.add_argument(
        "--video-frames", default="uniform:8", help="uniform:N, fps:N:MOST or times:S,S (default uniform:8)"
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as `load_captions` takes it."""
    from rlcap.data.columns import Columns

    return {
        "format": arguments.data_format,
        "columns": Columns.named_by(arguments),
        "video_frames": arguments.video_frames,
    }
