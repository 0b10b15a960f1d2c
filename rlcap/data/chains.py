"""`load_chains`: chains of captions, best first, and preference pairs, which are chains of two."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from rlcap.data.captions import as_dataset, listed, of_split, picture_folder, put_under
from rlcap.data.columns import Columns
from rlcap.data.jsonl import read_jsonl
from rlcap.data.preferences import chain_of_pair
from rlcap.data.rows import CaptionRow, shown, text_list
from rlcap.data.source_kind import kind_of
from rlcap.data.splits import split_name
from rlcap.data.tables import read_tables, with_columns
from rlcap.data.video import UNIFORM, FrameChoice

KINDS = ("object", "attribute", "count", "action", "relation", "person", "order", "scene")
NAMED = 5  # rows named in a message
READ = ("captions", "edits", "chosen", "rejected", "prompt", "references")


def load_chains(
    source: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    pictures: Dataset | None = None,
    split: str | None = None,
    check_images: bool = True,
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    video_frames: str = UNIFORM,
    ignore_prompts: bool = False,
) -> Dataset:
    """Read chains into rows `image_id`, `image` or `frames` or `video` and `video_frames`, `captions` (best first, two
    or more, all different), `kinds`, `split` and, where the source has them, `references` and `prompt`.

    Args:
        source: JSON lines as `rlcap chains` writes them, or with `captions` alone; or a data set of `datasets` (hub id,
            saved folder, parquet files) with such columns. In both, TRL's `chosen` and `rejected` (texts, or messages)
            are a chain of two. A picture may have several chains.
        images: the folder that relative paths in `source` are under. Default: as `load_captions` finds it.
        pictures: rows of `load_captions` whose pictures the chains' `image_id` name: for chains of pictures that are
            held in tar shards or in a data set, or whose file names no pictures. Their references are taken too. What
            a data set holds is copied, once a chain (`datasets` does so, to its cache where it can).
        split: the rows to keep; None keeps all.
        check_images: False reads chains whose pictures are elsewhere.
        columns: which columns or keys are the picture, the id and the split.
        video_frames: as in `load_captions`.
        ignore_prompts: True leaves `prompt` out, for chains that any captioner is to be asked for in its own words.

    `kinds` says what each of the K - 1 steps changed, one of KINDS or the source's own word; "" where that is unknown.
    `prompt` is TRL's, as text; null in rows without one. Raises ValueError naming the file and the line: fewer than two
    captions, equal or empty ones, an unknown layout, pictures that are not there, a picture in two splits.
    """
    name = os.fspath(source)
    split = None if split is None else split_name(split)
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder of pictures (--images, for the paths in {name})")
    held: Dataset | None = None
    found: Iterable[CaptionRow]
    kind = kind_of(name, "auto")
    if kind == "tar":
        raise ValueError(f"{name} are tar shards; chains are read from JSON lines or a data set (pictures=… for these)")
    if kind == "datasets":
        found, held = read_tables(name, split, columns, more=READ)
    else:
        found = read_jsonl(Path(name), columns=columns if columns.given else None, more=READ)
    rows = list(found)
    if not rows:
        raise ValueError(f"{name} has no rows")
    chains = _chains(rows, name)
    _refuse_torn(rows)
    kept = of_split(rows, split, name)
    if len(kept) < len(rows):
        wanted = set(map(id, kept))
        chains = [chain for row, chain in zip(rows, chains, strict=True) if id(row) in wanted]
    beside = _texts(kept, chains, ignore_prompts)
    if pictures is not None:
        return _of_pictures(pictures, kept, beside, name)
    blind = next((row for row in kept if not row.visual), None)
    if blind is not None:
        raise ValueError(
            f'{blind.where} has neither "image" nor "frames" nor "video": give it one, or the captions that have the '
            "pictures (--pictures, or pictures=load_captions(…) in Python)"
        )
    if held is None:
        put_under(kept, picture_folder(kept, folder, Path(name), check_images))
    visual = as_dataset(kept, held, FrameChoice.parse(video_frames), name).remove_columns(["references", "split"])
    return _joined(visual, beside)


def _chains(rows: list[CaptionRow], name: str) -> list[tuple[list[str], list[str]]]:
    """The chains of rows; ValueError with the number of the rows that are none, and the first of them."""
    chains = []
    wrong: dict[str, list[str]] = {}  # what is wrong -> the rows of which it is
    for row in rows:
        try:
            chains.append(_chain(row))
        except ValueError as error:
            wrong.setdefault(str(error).removeprefix(row.where), []).append(row.where)
    told = [f"{of[0]}{what}{f' (and {len(of) - 1} more)' if of[1:] else ''}" for what, of in wrong.items()]
    count = sum(map(len, wrong.values()))
    if count > 1:
        raise ValueError(f"{count} rows of {name} are no chains; the first: {'; '.join(told[:NAMED])}")
    if wrong:
        raise ValueError(told[0])
    return chains


def _chain(row: CaptionRow) -> tuple[list[str], list[str]]:
    """The captions of a row and the kinds of its steps."""
    pair = {"chosen", "rejected"} & set(row.more)
    if "captions" in row.more:
        captions = text_list(row.more["captions"], row.where, "captions")
    elif len(pair) == 2:
        captions, row.more["prompt"] = chain_of_pair(row.more, row.where)
    else:
        if pair:
            raise ValueError(f'{row.where} has no chain: there is no "chosen" or "rejected" (it has only {pair.pop()})')
        raise ValueError(
            f'{row.where} has no chain: there is no "captions", nor "chosen" and "rejected"; its keys are '
            f"{', '.join(row.keys)}. `rlcap chains` makes chains of a file of captions"
        )
    captions = [caption.strip() for caption in captions]
    if len(captions) < 2:
        raise ValueError(f"{row.where}: a chain is two captions or more, best first; here is {len(captions)}")
    if not all(captions):
        raise ValueError(f"{row.where}: caption {captions.index('') + 1} of the chain is empty")
    seen: dict[str, int] = {}
    for number, caption in enumerate(captions, start=1):
        if seen.setdefault(caption, number) != number:
            raise ValueError(
                f"{row.where}: captions {seen[caption]} and {number} are the same, {shown(caption)}; a chain is ordered"
            )
    edits = row.more.get("edits") or [{}] * (len(captions) - 1)
    if not isinstance(edits, list) or not all(isinstance(edit, dict) for edit in edits):
        raise ValueError(f'{row.where}: "edits" must be a list of objects, not {shown(edits)}')
    if len(edits) != len(captions) - 1:
        raise ValueError(f"{row.where}: {len(captions)} captions are {len(captions) - 1} steps, not {len(edits)} edits")
    return captions, [str(edit.get("kind") or "") for edit in edits]


def _refuse_torn(rows: list[CaptionRow]) -> None:
    """Every picture is one file, and in one split: what is learned on it would be tested on it."""
    first: dict[str, CaptionRow] = {}
    for row in rows:
        other = first.setdefault(row.image_id, row)
        if other.split != row.split:
            raise ValueError(
                f'{row.where}: "{row.image_id}" is in the split "{row.split}" here and "{other.split}" at {other.where}'
            )
        if other.visual != row.visual:
            raise ValueError(
                f'{row.where}: image_id "{row.image_id}" is {shown(row.visual)} here and {shown(other.visual)} at '
                f"{other.where}; give every picture its own image_id"
            )


def _texts(rows: list[CaptionRow], chains: list[tuple[list[str], list[str]]], ignore_prompts: bool) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "captions": [captions for captions, _ in chains],
        "kinds": [kinds for _, kinds in chains],
        "split": [row.split for row in rows],
    }
    if any("references" in row.more for row in rows):
        columns["references"] = [text_list(row.more.get("references", []), row.where, "references") for row in rows]
    if not ignore_prompts and any(row.more.get("prompt") is not None for row in rows):
        columns["prompt"] = [_prompt(row) for row in rows]
    return columns


def _prompt(row: CaptionRow) -> str | None:
    prompt = row.more.get("prompt")
    if prompt is None or isinstance(prompt, str):
        return prompt
    raise ValueError(f'{row.where}: "prompt" must be a text, not {shown(prompt)}')


def _of_pictures(pictures: Dataset, rows: list[CaptionRow], texts: dict[str, Any], name: str) -> Dataset:
    """The rows of `pictures` that the chains name, with the chains beside them."""
    number = {image_id: place for place, image_id in enumerate(pictures["image_id"])}
    unknown = list(dict.fromkeys(row.image_id for row in rows if row.image_id not in number))
    if unknown:
        raise ValueError(f"{name} has chains of {len(unknown)} pictures that are not in the data: {listed(unknown)}")
    chosen = pictures.select([number[row.image_id] for row in rows])
    texts.pop("references", None)
    for row, split in zip(rows, chosen["split"], strict=True):
        if row.split != split:
            raise ValueError(
                f'{row.where}: "{row.image_id}" is in the split "{row.split}" here and "{split}" in the data'
            )
    del texts["split"]
    return _joined(chosen, texts)


def _joined(visual: Dataset, texts: dict[str, Any]) -> Dataset:
    text = Value("string")
    features = Features({key: text if key in ("split", "prompt") else List(text) for key in texts})
    beside = Dataset.from_dict(texts, features=features)
    return with_columns(visual, beside)
