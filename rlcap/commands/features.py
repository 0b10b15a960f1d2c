"""`rlcap features`: the grid features of a frozen vision model, written once, read by training."""

import argparse
from pathlib import Path

from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.disk import require_writable


def main(argv: list[str]) -> None:
    """Writes the features of every picture of a caption file; resumes where it was stopped."""
    parser = argparse.ArgumentParser(
        prog="rlcap features",
        description="The grid features of a frozen vision model, written once, read by training. Processes started by "
        "torchrun (RANK, WORLD_SIZE) share the pictures, each into files of its own in the same folder; what was "
        "stopped goes on with the same command.",
    )
    seen_by = parser.add_mutually_exclusive_group(required=True)
    seen_by.add_argument("--vision", metavar="DIR|ID", help="the vision model of a grid transformer to be made")
    seen_by.add_argument("--captioner", metavar="DIR|ID", help="a captioner whose vision model is frozen")
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="a caption file, a data set of `datasets`, or tar shards"
    )
    parser.add_argument("--images", metavar="DIR", help="folder of its pictures; default: beside it")
    parser.add_argument("--split", help="only the pictures of this split; default: all")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the features (fp16)")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures at a time (default 32)")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode pictures")
    parser.add_argument("--max-bad-images", type=float, default=0.01, help="share that may fail to decode")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU where there is one")
    add_column_flags(parser)
    arguments = parser.parse_args(argv)
    require_writable(Path(arguments.output).parent, "the folder of --output,")

    import captioners
    from captioners.grids import require_grid
    from captioners.vision import GridVision
    from rlcap.console import say
    from rlcap.data import load_captions
    from rlcap.data.write_features import write_features
    from rlcap.launching import world

    dataset = load_captions(
        arguments.data, images=arguments.images, split=arguments.split, **reading_options(arguments)
    )
    if arguments.vision:
        sees: GridVision | captioners.GridCaptioner = GridVision.from_pretrained(arguments.vision)
    else:
        sees = require_grid(captioners.load(arguments.captioner))
    store = write_features(
        sees.to(world.device(arguments.device)),
        dataset,
        arguments.output,
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
        rank=world.rank(),
        world=world.size(),
        max_bad_images=arguments.max_bad_images,
    )
    if world.size() == 1:
        say(f"rlcap: features of {len(store)} pictures in {arguments.output}")
        return
    share = dataset["image_id"][world.rank() :: world.size()]
    done = sum(image_id in store for image_id in share)
    say(
        f"rlcap: rank {world.rank()} of {world.size()} is done: features of {done} of its {len(share)} pictures are in "
        f"{arguments.output}"
    )
