"""`rlcap positives captions|pictures`: generated positives for `rlcap reward pac`."""

import argparse
from pathlib import Path
from typing import Any

from rlcap.commands.overwrite_flag import add_overwrite_flag
from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.disk import require_writable
from rlcap.near import require_subcommand


def main(argv: list[str]) -> None:
    """Generates what the first word says; a killed run goes on with the same command."""
    require_subcommand("positives", argv, ["captions", "pictures"])
    arguments = _parser().parse_args(argv)
    output = Path(arguments.output)
    require_writable(output if arguments.what == "pictures" else output.parent, "the folder of --output,")
    {"captions": _captions, "pictures": _pictures}[arguments.what](arguments)


def _captions(arguments: argparse.Namespace) -> None:
    import captioners
    from captioners.grids import require_grid
    from captioners.types import GenerationSettings
    from captioners.weights import fingerprint
    from rlcap.data.write_features import stored_features
    from rlcap.launching import world
    from rlcap.positives.captions import caption_maker, describe
    from rlcap.positives.manifest import CAPTIONS

    dataset = _load(arguments, check_images=arguments.features is None)
    captioner = captioners.load(arguments.captioner, prompt=arguments.prompt).to(world.device(arguments.device))
    store = None
    if arguments.features is not None:
        store = stored_features(arguments.features, require_grid(captioner), dataset)
    generation = GenerationSettings(
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        num_beams=arguments.num_beams,
        length_penalty=arguments.length_penalty,
    )
    head = {
        "format": CAPTIONS,
        "captioner": {"path": arguments.captioner, "weights": fingerprint([captioner]), "prompt": captioner.prompt},
        **describe(generation, arguments.way),
        "number": arguments.number,
    }
    make = caption_maker(
        captioner,
        dataset,
        arguments.way,
        arguments.number,
        generation,
        seed=arguments.seed,
        features=store,
        workers=arguments.workers,
    )
    _write(arguments, dataset, make, Path(arguments.output), head, arguments.max_bad_images, "picture")


def _pictures(arguments: argparse.Namespace) -> None:
    from rlcap.data import require_references
    from rlcap.launching import world
    from rlcap.positives.manifest import PICTURES, PICTURES_FILE
    from rlcap.positives.pictures import load_pipeline, picture_maker

    dataset = _load(arguments, check_images=False)
    require_references(dataset)
    options = {
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance_scale,
        "height": arguments.size,
        "width": arguments.size,
    }
    options = {name: value for name, value in options.items() if value is not None}
    pipeline = load_pipeline(arguments.model, arguments.dtype, world.device(arguments.device))
    head = {"format": PICTURES, "model": arguments.model, "dtype": arguments.dtype, "options": options}
    folder = Path(arguments.output)
    make = picture_maker(pipeline, dataset, folder, seed=arguments.seed, options=options)
    _write(arguments, dataset, make, folder / PICTURES_FILE, head, arguments.max_failed, "picture")


def _write(
    arguments: argparse.Namespace, dataset: Any, make: Any, output: Path, head: dict[str, Any], limit: float, unit: str
) -> None:
    from rlcap.console import say
    from rlcap.data.fingerprint import rows_fingerprint
    from rlcap.launching import world
    from rlcap.positives.manifest import write_manifest
    from rlcap.tracking.run_directory import library_versions

    rows = write_manifest(
        dataset["image_id"],
        make,
        output,
        {
            **head,
            "data": {"source": arguments.data, "split": arguments.split, "sha256": rows_fingerprint(dataset)},
            "seed": arguments.seed,
            "batch_size": arguments.batch_size,
            "versions": library_versions(),
        },
        rank=world.rank(),
        world=world.size(),
        batch_size=arguments.batch_size,
        max_failed=limit,
        unit=unit,
        overwrite=arguments.overwrite,
    )
    if rows is None:
        say(f"rlcap: rank {world.rank()} is done; the last one of {world.size()} writes {output}")
        return
    failed = sum("failed" in row for row in rows)
    say(f"rlcap: {len(rows) - failed} of {len(rows)} rows in {output}" + (f", {failed} failed" if failed else ""))


def _load(arguments: argparse.Namespace, check_images: bool) -> Any:
    from rlcap.data import load_captions

    dataset = load_captions(
        arguments.data,
        images=arguments.image_folder,
        split=arguments.split,
        check_images=check_images,
        drop_empty=True,
        **reading_options(arguments),
    )
    return dataset if arguments.max_images is None else dataset.select(range(min(arguments.max_images, len(dataset))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcap positives",
        description="Generated positives for `rlcap reward pac`. Processes started by torchrun (RANK, WORLD_SIZE) "
        "share the work; a run that was stopped goes on with the same command.",
    )
    kinds = parser.add_subparsers(dest="what", required=True)
    captions = kinds.add_parser("captions", help="captions for pictures, by a captioner of ours")
    captions.add_argument("--captioner", required=True, metavar="DIR|ID", help="the captioner: a directory or hub id")
    captions.add_argument("--prompt", help="text that conditions every caption; default: the captioner's own")
    captions.add_argument("--output", required=True, metavar="OUT.jsonl", help="a line a picture")
    captions.add_argument("--way", default="beam", help="greedy, beam or sample (default beam)")
    captions.add_argument("--number", type=int, default=1, help="captions a picture (default 1)")
    captions.add_argument("--num-beams", type=int, default=3, help="beam search: beams (default 3)")
    captions.add_argument("--length-penalty", type=float, default=1.0, help="beam search: exponent of the length")
    captions.add_argument("--temperature", type=float, default=1.0, help="of samples (default 1)")
    captions.add_argument("--top-k", type=int, default=0, help="of samples; 0 is off")
    captions.add_argument("--top-p", type=float, default=1.0, help="of samples; 1 is off")
    captions.add_argument("--max-new-tokens", type=int, default=20, help="most tokens a caption (default 20)")
    captions.add_argument("--features", metavar="DIR", help="features written by `rlcap features`")
    captions.add_argument("--workers", type=int, default=0, help="processes that decode pictures")
    captions.add_argument("--max-bad-images", type=float, default=0.01, help="share that may fail to decode")
    pictures = kinds.add_parser("pictures", help="pictures for captions, by a text-to-image pipeline of diffusers")
    pictures.add_argument("--model", required=True, metavar="DIR|ID", help="the pipeline: a directory or hub id")
    pictures.add_argument("--output", required=True, metavar="DIR", help="folder of the pictures and their list")
    pictures.add_argument("--steps", type=int, help="steps of the sampler; default: the pipeline's")
    pictures.add_argument("--guidance-scale", type=float, help="default: the pipeline's")
    pictures.add_argument("--size", type=int, help="pixels of a side; default: the pipeline's")
    pictures.add_argument("--dtype", default="float32", help="float32, float16 or bfloat16 (default float32)")
    pictures.add_argument("--max-failed", type=float, default=0.05, help="share of captions that may fail")
    for kind, size in ((captions, 32), (pictures, 4)):
        kind.add_argument("--data", required=True, metavar="SOURCE", help="of any kind that `rlcap xe` reads")
        kind.add_argument("--split", default="train", help="its split (default train)")
        kind.add_argument("--image-folder", metavar="DIR", help="where its pictures are; default: beside it")
        kind.add_argument("--max-images", type=int, help="the first so many rows")
        kind.add_argument("--seed", type=int, default=0, help="of all that is drawn (default 0)")
        kind.add_argument("--batch-size", type=int, default=size, help=f"rows at a time (default {size})")
        kind.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU where there is one")
        add_overwrite_flag(kind)
        add_column_flags(kind)
    return parser
