"""`rlcap rank-eval`: how well a captioner ranks held-out chains, and how well it does so without their pictures."""

import argparse
from pathlib import Path
from typing import Any

from rlcap.commands.source_flags import add_column_flags
from rlcap.disk import require_writable


def main(argv: list[str]) -> None:
    """Ranks the chains under each control, prints a table and writes the JSON file."""
    arguments = _parser().parse_args(argv)
    if arguments.output:
        require_writable(Path(arguments.output).parent, "the folder of --output,")

    import torch

    import captioners
    from captioners.grids import require_grid
    from rlcap.console import say
    from rlcap.data.features import FeatureStore
    from rlcap.data.write_features import feature_header, frames_of
    from rlcap.rank_eval import WHAT_IT_IS, RankEvaluation, rank_evaluation, results_table
    from rlcap.tracking.run_directory import library_versions, write_json

    chains = _chains(arguments)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    captioner = captioners.load(arguments.captioner, prompt=arguments.prompt).to(device)
    reference = None
    if arguments.reference is not None:
        reference = captioners.load(arguments.reference, prompt=arguments.prompt).to(device)
    store = None if arguments.features is None else FeatureStore(arguments.features)
    if store is not None:
        for own in (captioner, reference):
            if own is not None:
                store.check(feature_header(require_grid(own), **frames_of(chains)))
        store.require(chains["image_id"])
    evaluation: RankEvaluation = rank_evaluation(
        captioner,
        chains,
        reference=reference,
        controls=arguments.controls,
        normalization=arguments.normalization,
        max_caption_length=arguments.max_caption_length,
        features=store,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        max_bad_images=arguments.max_bad_images,
        seed=arguments.seed,
    )
    say(results_table(evaluation), *(f"{control}: {WHAT_IT_IS[control]}" for control in evaluation.measures))
    if arguments.output:
        result: dict[str, Any] = {
            "controls": evaluation.measures,
            "chains": evaluation.chains,
            "left_out": evaluation.left_out,
            "steps": evaluation.steps,
            "settings": vars(arguments),
            "versions": library_versions(),
        }
        if arguments.per_chain:
            result["per_chain"] = evaluation.per_chain
        write_json(Path(arguments.output), result)
        say(f"rlcap: written to {arguments.output}")


def _chains(arguments: argparse.Namespace) -> Any:
    from rlcap.data import load_captions, load_chains
    from rlcap.data.columns import Columns

    options = {"check_images": arguments.features is None, "video_frames": arguments.video_frames}
    chosen = {"split": arguments.split, "ignore_prompts": arguments.ignore_prompts, **options}
    if arguments.pictures is None:
        return load_chains(arguments.data, images=arguments.images, columns=Columns.named_by(arguments), **chosen)
    held = load_captions(
        arguments.pictures,
        images=arguments.images,
        format=arguments.data_format,
        columns=Columns.named_by(arguments),
        **options,
    )
    return load_chains(arguments.data, pictures=held, **chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcap rank-eval",
        description="Ranks the captions of chains by their log-probability under a captioner, or, with --reference, by "
        "log policy - log reference. Beside it the same with the pictures of others (shuffled) and with even grey ones "
        "(blank): what these get right needs no picture.",
    )
    parser.add_argument("--captioner", required=True, metavar="DIR|ID", help="the captioner: a directory or hub id")
    parser.add_argument(
        "--reference", metavar="DIR|ID", help="what it was before ranking-DPO: ranks by the implicit reward"
    )
    parser.add_argument("--data", required=True, metavar="CHAINS", help="chains, or preferences in TRL's columns")
    parser.add_argument("--split", help="the split to rank; default: all rows")
    parser.add_argument("--images", metavar="DIR", help="folder of the pictures; default: beside the data")
    parser.add_argument("--pictures", metavar="SOURCE", help="captions with the pictures that the chains name by id")
    parser.add_argument("--features", metavar="DIR", help="features written by `rlcap features`")
    parser.add_argument(
        "--controls",
        nargs="+",
        default=["true", "shuffled", "blank"],
        choices=["true", "shuffled", "blank"],
        help="what the captioner is shown (default: each of them)",
    )
    parser.add_argument(
        "--normalization",
        default="token",
        choices=["token", "sequence"],
        help="log-probabilities of a caption summed (token, the default) or averaged over its tokens (sequence)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled pictures (default 0)")
    parser.add_argument("--max-caption-length", type=int, help="most tokens of a caption; default: what fits")
    parser.add_argument("--prompt", help="text that conditions every caption; default: the captioner's own")
    parser.add_argument(
        "--ignore-prompts",
        action="store_true",
        help="score chains with a prompt (TRL's) under the captioner's own; else they must be the same",
    )
    parser.add_argument("--output", metavar="OUT.json", help="where the results go beside the table")
    parser.add_argument("--per-chain", action="store_true", help="write the scores of every chain too")
    parser.add_argument("--batch-size", type=int, default=32, help="chains at a time (default 32)")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode pictures")
    parser.add_argument("--max-bad-images", type=float, default=0.01, help="share that may fail to decode")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU where there is one")
    add_column_flags(parser)
    return parser
