"""`rlcap caption`: captions for pictures, a folder of them, a clip, videos, or a split of a data set, as JSON."""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.commands.overwrite_flag import add_overwrite_flag
from rlcap.commands.source_flags import add_column_flags, reading_options
from rlcap.disk import require_writable

if TYPE_CHECKING:
    from datasets import Dataset

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def main(argv: list[str]) -> None:
    """Captions what the command line names and writes image id -> caption."""
    arguments = _parser().parse_args(argv)
    if arguments.output:
        require_writable(Path(arguments.output).parent, "the folder of --output,")
    rows = _rows(arguments)

    from datasets import Dataset

    import captioners
    from captioners.grids import require_grid
    from captioners.types import GenerationSettings
    from rlcap.caption_file import write_captions
    from rlcap.captioning import caption_all
    from rlcap.console import say
    from rlcap.data.write_features import stored_features
    from rlcap.launching import world

    if arguments.output is None and world.size() > 1:
        raise ValueError("several processes write their captions together: name --output")
    captioner = captioners.load(arguments.captioner, prompt=arguments.prompt).to(world.device(arguments.device))
    dataset = rows if isinstance(rows, Dataset) else Dataset.from_list(rows)
    store = None
    if arguments.features is not None:
        store = stored_features(arguments.features, require_grid(captioner), dataset)
    generation = GenerationSettings(
        max_new_tokens=arguments.max_new_tokens,
        num_beams=arguments.num_beams,
        length_penalty=arguments.length_penalty,
    )
    if arguments.output is not None:
        output = Path(arguments.output)
        rows = write_captions(
            captioner,
            dataset,
            generation,
            output,
            _origin(arguments, dataset),
            features=store,
            rank=world.rank(),
            world=world.size(),
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            max_bad_images=arguments.max_bad_images,
            overwrite=arguments.overwrite,
        )
        if rows is None:
            say(f"rlcap: rank {world.rank()} is done; the last one of {world.size()} writes {output}")
        else:
            skipped = sum("failed" in row for row in rows)
            told = f"; {skipped} picture{'s'[: skipped > 1]} skipped" if skipped else ""
            say(f"rlcap: {len(rows) - skipped} captions in {output}{told}")
        return
    captions = caption_all(
        captioner,
        dataset,
        generation,
        features=store,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        max_bad_images=arguments.max_bad_images,
    )
    for image_id, caption in captions.items():
        print(f"{image_id}\t{caption}")


def _origin(arguments: argparse.Namespace, dataset: "Dataset") -> dict[str, Any]:
    """Where the pictures come from: two folders may have files of the same names."""
    if arguments.data:
        read = {"data": arguments.data, "split": arguments.split, "images": arguments.image_folder}
        return {**read, "reading": reading_options(arguments)}
    files = [name for row in dataset for key in ("image", "frames", "video") for name in _list(row.get(key))]
    paths = "\n".join(str(Path(name).resolve()) for name in files)
    return {"files": hashlib.sha256(paths.encode()).hexdigest(), "video_frames": arguments.video_frames}


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlcap caption",
        description="Captions for pictures and clips, as JSON. Processes started by torchrun (RANK, WORLD_SIZE) share "
        "the work; a run with --output that was stopped goes on with the same command.",
    )
    what = parser.add_argument_group("what to caption (one of them)").add_mutually_exclusive_group(required=True)
    what.add_argument("--images", nargs="+", metavar="FILE", help="pictures")
    what.add_argument("--folder", metavar="DIR", help="all pictures of a folder")
    what.add_argument("--clip", nargs="+", metavar="FRAME", help="the frames of one clip, in order, or their folder")
    what.add_argument("--videos", nargs="+", metavar="FILE", help="video files")
    what.add_argument("--data", metavar="SOURCE", help="a caption file, a data set of `datasets`, or tar shards")
    parser.add_argument("--split", help="with --data: the split to caption")
    parser.add_argument("--image-folder", metavar="DIR", help="with --data: where its pictures are")
    parser.add_argument("--features", metavar="DIR", help="with --data: features written by `rlcap features`")
    parser.add_argument("--captioner", required=True, metavar="DIR|ID", help="the captioner: a directory or hub id")
    parser.add_argument("--prompt", help="text that conditions every caption; default: the captioner's own")
    parser.add_argument("--output", metavar="OUT.json", help="default: printed, one a line")
    parser.add_argument("--num-beams", type=int, default=3, help="1: greedy (default 3)")
    parser.add_argument("--max-new-tokens", type=int, default=20, help="most tokens a caption (default 20)")
    parser.add_argument("--length-penalty", type=float, default=1.0, help="beam search's exponent of the length")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures at a time (default 32)")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode pictures")
    parser.add_argument("--max-bad-images", type=float, default=0.01, help="share that may fail to decode")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU where there is one")
    add_overwrite_flag(parser)
    add_column_flags(parser)
    return parser


def _rows(arguments: argparse.Namespace) -> Any:
    if arguments.data:
        from rlcap.data import load_captions

        return load_captions(
            arguments.data,
            images=arguments.image_folder,
            split=arguments.split,
            check_images=arguments.features is None,
            **reading_options(arguments),
        )
    if arguments.features:
        raise ValueError("--features go with --data: they are found by the image ids of a caption file")
    if arguments.clip:
        frames = _pictures(Path(arguments.clip[0])) if Path(arguments.clip[0]).is_dir() else arguments.clip
        return [{"image_id": Path(arguments.clip[0]).stem, "frames": _existing(frames)}]
    files = _existing(_pictures(Path(arguments.folder)) if arguments.folder else arguments.images or arguments.videos)
    names = [Path(file).name for file in files]
    ids = names if len(set(names)) == len(names) else files
    if arguments.videos:
        from rlcap.data.video import FrameChoice

        choice = str(FrameChoice.parse(arguments.video_frames))
        return [{"image_id": i, "video": file, "video_frames": choice} for i, file in zip(ids, files, strict=True)]
    return [{"image_id": image_id, "image": file} for image_id, file in zip(ids, files, strict=True)]


def _pictures(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise ValueError(f"{folder} holds no pictures ({', '.join(sorted(PICTURES))})")
    return found


def _existing(files: list[str]) -> list[str]:
    for file in files:
        if not Path(file).is_file():
            raise ValueError(f"{file}: there is no such picture")
    return files
