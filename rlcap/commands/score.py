"""`rlcap score`: captions scored with a reward, one value a caption, by any number of processes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.commands.json_flag import json_object
from rlcap.commands.overwrite_flag import add_overwrite_flag
from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.disk import require_writable

if TYPE_CHECKING:
    from datasets import Dataset

    from rewards import Reward
    from rlcap.evaluation.scoring import Item


def main(argv: list[str]) -> None:
    """Scores the captions that the command line names and writes what it found; a killed run goes on."""
    arguments = _parser().parse_args(argv)
    require_writable(Path(arguments.output).parent, "the folder of --output,")
    options = json_object(arguments.reward_options, "--reward-options")

    import torch

    import rewards
    from rewards.combined import Combined
    from rlcap.console import say
    from rlcap.evaluation.files import read_captions
    from rlcap.evaluation.score_file import write_scores
    from rlcap.launching import world
    from rlcap.tracking.run_directory import library_versions

    if torch.cuda.is_available():
        torch.cuda.set_device(world.device(None))  # rewards take the current GPU
    captions = read_captions(Path(arguments.captions))
    dataset = _load(arguments, arguments.split)
    corpus, corpus_from = _corpus(arguments, dataset)
    loaded = _load_rewards(arguments.reward, options, corpus)
    weights = arguments.reward_weights
    reward = loaded[0] if len(loaded) == 1 and weights is None else Combined(loaded, weights)
    header = {
        "reward": rewards.describe(reward),
        "options": options,
        "captions": {"file": arguments.captions, "sha256": _sha256(Path(arguments.captions))},
        "data": {"source": arguments.data, "split": arguments.split, **_known_by(dataset)},
        **({"corpus": corpus_from} if any(getattr(own, "uses_corpus", False) for own in loaded) else {}),
        "batch_size": arguments.batch_size,
        "versions": library_versions(),
    }
    output = Path(arguments.output)
    result = write_scores(
        reward,
        _items(captions, dataset, arguments, reward.needs),
        output,
        header,
        rank=world.rank(),
        world=world.size(),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        max_bad_images=arguments.max_bad_images,
        timeout=arguments.reward_timeout,
        overwrite=arguments.overwrite,
    )
    if result is None:
        say(f"rlcap: rank {world.rank()} is done; the last one of {world.size()} writes {output}")
        return
    mean = "none" if result["mean"] is None else f"{result['mean']:.4f}"
    say(f"rlcap: {result['scored']} of {result['captions']} captions scored, mean {mean}, in {output}")


def _load_rewards(names: list[str], options: dict[str, Any], corpus: dict[str, list[str]] | None) -> "list[Reward]":
    """The rewards of these names; options are by name, or those of the only reward."""
    import rewards

    if len(names) == 1 and set(options) != set(names):
        options = {names[0]: options}
    unknown = sorted(set(options) - set(names))
    if unknown or not all(isinstance(own, dict) for own in options.values()):
        raise ValueError(
            f"--reward-options must be, for several rewards, an object of names ({', '.join(names)}) and their options"
        )
    return [rewards.load(name, corpus=corpus, **options.get(name, {})) for name in names]


def _load(arguments: argparse.Namespace, split: str | None) -> "Dataset | None":
    if arguments.data is None:
        return None
    from rlcap.data import load_captions

    return load_captions(
        arguments.data,
        images=arguments.images,
        split=split,
        check_images=False,
        drop_empty=True,
        **reading_options(arguments),
    )


def _corpus(arguments: argparse.Namespace, dataset: "Dataset | None") -> tuple[dict[str, list[str]] | None, Any]:
    """The references that document frequencies are counted on, and where they come from."""
    if dataset is None:
        return None, None
    split = arguments.corpus_split or arguments.split
    counted = dataset if split == arguments.split else _load(arguments, split)
    assert counted is not None
    columns = counted.select_columns(["image_id", "references"])
    corpus = {row["image_id"]: row["references"] for row in columns if row["references"]}
    return corpus, {"source": arguments.data, "split": split, "pictures": len(corpus), **_known_by(counted)}


def _known_by(dataset: "Dataset | None") -> dict[str, str]:
    from rlcap.data.fingerprint import rows_fingerprint

    return {} if dataset is None else {"sha256": rows_fingerprint(dataset)}


def _items(
    captions: list[tuple[str, str]], dataset: "Dataset | None", arguments: argparse.Namespace, needs: frozenset[str]
) -> "list[Item]":
    from rlcap.evaluation.metrics import describe_ids
    from rlcap.evaluation.scoring import Item, TableRow

    looks = sorted(needs & {"images", "references"})
    if dataset is None:
        if looks:
            raise ValueError(f"{' + '.join(arguments.reward)} needs {' and '.join(looks)}: name their --data")
        return [Item(image_id, caption) for image_id, caption in captions]
    number = {image_id: row for row, image_id in enumerate(dataset["image_id"])}
    unknown = list(dict.fromkeys(image_id for image_id, _ in captions if image_id not in number))
    if unknown:
        raise ValueError(
            f"{arguments.captions} has captions of {describe_ids(unknown)} that {arguments.data} does not have"
            + (f' in the split "{arguments.split}"' if arguments.split else "")
        )
    references = [tuple(own) for own in dataset["references"]]
    return [
        Item(image_id, caption, references[number[image_id]], TableRow(dataset, number[image_id]))
        for image_id, caption in captions
    ]


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcap score",
        description="One value a caption by any reward, with what determined it in the file's header. "
        "cider-d is the reward of training, in 0 to 10, and counts the end of a caption; cider of `rlcap evaluate` is "
        "times 100 and does not. Processes started by torchrun (RANK, WORLD_SIZE) share the work; a run that was "
        "stopped goes on with the same command.",
    )
    parser.add_argument(
        "--reward",
        required=True,
        nargs="+",
        metavar="NAME",
        help="built-in ones, or package.module:attribute; the score is the weighted sum of several",
    )
    parser.add_argument(
        "--reward-weights", "--reward_weights", nargs="+", type=float, metavar="W", help="one a reward; default: 1 each"
    )
    parser.add_argument(
        "--reward-options",
        "--reward_options",
        metavar="JSON",
        help='{"option": value}; of several rewards {"name": {"option": value}}',
    )
    parser.add_argument(
        "--captions",
        required=True,
        metavar="FILE",
        help="JSON id -> caption or list of captions, a COCO results list, or JSON lines with image_id and caption",
    )
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="pictures and references: a caption file, a data set of `datasets`, or tar shards; not needed for rewards "
        "that look at captions alone",
    )
    parser.add_argument("--split", help="its split, in sources that have splits; default: all rows")
    parser.add_argument("--images", metavar="DIR", help="folder of its pictures; default: beside it")
    parser.add_argument(
        "--corpus-split", help="the split on which cider-d counts document frequencies; default: --split"
    )
    parser.add_argument("--output", required=True, metavar="OUT.json", help="header, mean and scores")
    parser.add_argument("--batch-size", type=int, default=64, help="captions a call of the reward (default 64)")
    parser.add_argument("--workers", type=int, default=2, help="threads that open pictures (default 2)")
    parser.add_argument("--max-bad-images", type=float, default=0.01, help="share that may fail to decode")
    parser.add_argument(
        "--reward-timeout", type=float, default=600, help="seconds that a batch may take (default 600; 0: no end)"
    )
    add_overwrite_flag(parser)
    add_column_flags(parser)
    return parser
