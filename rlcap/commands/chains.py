"""`rlcap chains`: captions made worse by one detail at a time, and `rlcap chains show`, which prints them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.commands.overwrite_flag import add_overwrite_flag
from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.disk import require_writable
from rlcap.near import require_subcommand

if TYPE_CHECKING:
    from datasets import Dataset

    from rlcap.degrading.chain_file import Degrader


def main(argv: list[str]) -> None:
    """Makes the chains that the command line asks for; a killed run goes on. `show FILE` prints some."""
    if argv[:1] == ["show"]:
        _show(_show_parser().parse_args(argv[1:]))
        return
    require_subcommand("chains", argv, ["show"])
    arguments = _parser().parse_args(argv)
    require_writable(Path(arguments.output).parent, "the folder of --output,")
    _check(arguments)

    from rlcap.console import say
    from rlcap.data import load_captions, require_references
    from rlcap.data.blind import VISUAL
    from rlcap.data.fingerprint import TEXTS, rows_fingerprint
    from rlcap.degrading.chain_file import SUMMARY, write_chains
    from rlcap.degrading.conversation import described
    from rlcap.degrading.starts import starts
    from rlcap.degrading.visuals import Visuals
    from rlcap.launching import world
    from rlcap.tracking.run_directory import library_versions

    arguments.kinds = described(arguments.kinds or ())
    dataset = load_captions(
        arguments.data,
        images=arguments.images,
        split=arguments.split,
        check_images=not arguments.captions_only,
        drop_empty=True,
        **reading_options(arguments),
    )
    require_references(dataset)
    if arguments.pictures is not None:
        dataset = dataset.select(range(min(arguments.pictures, len(dataset))))
    output = Path(arguments.output)
    visuals = Visuals(dataset, output.parent, None if arguments.captions_only else arguments.data)
    degrader, details, batch = _degrader(arguments, dataset)

    def texts() -> Any:
        columns = dataset.select_columns(["image_id", "references"])
        pictures = ((item["image_id"], item["references"]) for item in columns)
        return starts(pictures, join=arguments.join, per_picture=arguments.per_picture, seed=arguments.seed)

    summary = write_chains(
        degrader,
        texts,
        output,
        {
            "degrader": arguments.degrader,
            **details,
            "data": {
                **{"source": arguments.data, "split": arguments.split, "pictures": len(dataset)},
                "sha256": rows_fingerprint(dataset, of=TEXTS if arguments.captions_only else (*VISUAL, *TEXTS)),
            },
            "length": arguments.length,
            "shortest": arguments.shortest,
            "kinds": arguments.kinds,
            "join": arguments.join,
            "per_picture": arguments.per_picture,
            "seed": arguments.seed,
            "versions": library_versions(),
        },
        batch=batch,
        row=visuals.of,
        total=sum(1 for _ in texts()),
        shortest=arguments.shortest,
        rank=world.rank(),
        world=world.size(),
        overwrite=arguments.overwrite,
    )
    if summary is None:
        say(f"rlcap: rank {world.rank()} is done; the last one of {world.size()} writes {output}")
        return
    say(
        f"rlcap: {summary['chains']} chains of {summary['starts']} captions in {output} (see {output.name}{SUMMARY})",
        f"  captions a chain: {_counts(summary['lengths'])}",
        f"  edits: {_counts(summary['kinds'])}",
        f"  shorter, refused or dropped: {_counts(summary['failures']) or 'none'}",
    )


def _degrader(arguments: argparse.Namespace, dataset: "Dataset") -> "tuple[Any, dict[str, Any], int]":
    """What makes the degrader when it is needed, what of it determines the chains, and its unit."""
    if arguments.degrader == "rules":
        from rlcap.degrading import parse
        from rlcap.degrading.rules import Rules
        from rlcap.degrading.vocabulary import vocabulary_of

        parser = parse.load_parser(arguments.parser)

        def rules() -> "Degrader":
            vocabulary = vocabulary_of(dataset["references"], lambda texts: parse.parsed(parser, texts))
            return Rules(parser, vocabulary, length=arguments.length, seed=arguments.seed, kinds=arguments.kinds)

        return rules, {"parser": parse.described(parser)}, Rules.batch

    from rlcap.degrading.conversation import Limits

    limits = Limits(
        length=arguments.length, words=arguments.most_words, tries=arguments.tries, kinds=tuple(arguments.kinds)
    )
    details = {"model": arguments.model, "temperature": arguments.temperature, "limits": vars(limits)}
    if arguments.endpoint is not None:
        from rlcap.degrading.endpoint import Endpoint

        def endpoint() -> "Degrader":
            return Endpoint(
                arguments.endpoint,
                arguments.model,
                limits,
                seed=arguments.seed,
                in_flight=arguments.in_flight,
                temperature=arguments.temperature,
            )

        return endpoint, details, Endpoint.batch

    def local() -> "Degrader":
        from rlcap.degrading.local_chat import LocalChat

        return LocalChat(
            arguments.model,
            limits,
            seed=arguments.seed,
            batch=arguments.batch_size,
            temperature=arguments.temperature,
        )

    return local, {**details, "batch_size": arguments.batch_size}, arguments.batch_size


def _show(arguments: argparse.Namespace) -> None:
    from rlcap.degrading.show import chosen, shown

    rows = chosen(Path(arguments.file), arguments.number, arguments.image_id, arguments.kind, arguments.seed)
    for row in rows:
        from rlcap.console import console

        console.print(shown(row, marks=not console.is_terminal), soft_wrap=True)


def _check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for flags that cannot be or do not go together."""
    least = {"length": 2, "shortest": 2, "join": 1, "per_picture": 1, "pictures": 1, "in_flight": 1, "batch_size": 1}
    for name, smallest in {**least, "tries": 1, "most_words": 1}.items():
        value = getattr(arguments, name)
        if value is not None and value < smallest:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be {smallest} or more")
    if arguments.shortest > arguments.length:
        raise ValueError(f"--shortest {arguments.shortest} is more than --length {arguments.length}")
    if arguments.degrader == "llm" and arguments.model is None:
        raise ValueError("--degrader llm needs a --model: its name at the --endpoint, or a hub id or folder")
    if arguments.endpoint is not None:
        from rlcap.degrading.endpoint import require_address

        require_address(arguments.endpoint)
    elif arguments.degrader == "llm":
        from rlcap.degrading.local_chat import load_chat_tokenizer

        load_chat_tokenizer(arguments.model)
    if arguments.degrader == "rules" and (arguments.model or arguments.endpoint):
        raise ValueError("--model and --endpoint are for --degrader llm")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcap chains",
        description="Chains of captions, best first: each step changes one detail that can be checked, and records its "
        "kind, what stood there and what stands there now. Processes started by torchrun (RANK, WORLD_SIZE) share the "
        "work; a run that was stopped goes on with the same command. `rlcap chains show FILE` prints chains.",
    )
    parser.add_argument("--data", required=True, metavar="SOURCE", help="a caption file, a data set, or tar shards")
    parser.add_argument("--split", help="its split, in sources that have splits; default: all rows")
    parser.add_argument("--images", metavar="DIR", help="folder of its pictures; default: beside it")
    parser.add_argument("--captions-only", action="store_true", help="name no pictures in the chains")
    parser.add_argument("--pictures", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument(
        "--output", required=True, metavar="OUT.jsonl", help="one chain a line, as load_chains reads it"
    )
    parser.add_argument("--degrader", choices=("rules", "llm"), default="rules", help="default: rules")
    parser.add_argument("--length", type=int, default=5, metavar="K", help="captions a chain at most (default 5)")
    parser.add_argument("--shortest", type=int, default=2, metavar="K", help="captions at least (default 2)")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds of edits to make; default: all")
    parser.add_argument("--join", type=int, default=1, metavar="N", help="references that make one text (default 1)")
    parser.add_argument(
        "--per-picture", type=int, metavar="N", help="chains a picture at most; default: of every caption"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default 0)")
    rules = parser.add_argument_group("rules")
    rules.add_argument("--parser", default="en_core_web_sm", metavar="NAME", help="spaCy pipeline: package or folder")
    llm = parser.add_argument_group("llm")
    llm.add_argument("--model", metavar="NAME", help="hub id or folder of a chat model, or its name at the endpoint")
    llm.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible, up to /v1; the key is in RLCAP_API_KEY")
    llm.add_argument("--in-flight", type=int, default=64, help="captions worked on at an endpoint (default 64)")
    llm.add_argument("--batch-size", type=int, default=16, help="captions a batch of a local model (default 16)")
    llm.add_argument("--temperature", type=float, default=0.7, help="of the answers (default 0.7)")
    llm.add_argument("--tries", type=int, default=4, help="answers asked for at a step (default 4)")
    llm.add_argument("--most-words", type=int, default=4, help="words of the detail that a step changes (default 4)")
    add_overwrite_flag(parser)
    add_column_flags(parser)
    return parser


def _show_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rlcap chains show", description="Prints chains with the edits marked.")
    parser.add_argument("file", metavar="FILE", help="chains or preference pairs as JSON lines")
    parser.add_argument("--number", type=int, default=10, help="how many, drawn at random (default 10)")
    parser.add_argument("--image-id", metavar="ID", help="only those of this picture")
    parser.add_argument("--kind", help="only those with an edit of this kind")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    return parser
