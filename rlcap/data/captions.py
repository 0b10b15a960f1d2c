"""`load_captions`: one door for caption files, data sets of `datasets` and tar shards."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from datasets.table import InMemoryTable

from rlcap.data.caption_files import read_file
from rlcap.data.columns import Columns
from rlcap.data.rows import CaptionRow, shown
from rlcap.data.source_kind import NAMED, kind_of
from rlcap.data.splits import split_name
from rlcap.data.stores import remember
from rlcap.data.tables import joined, read_tables
from rlcap.data.tar_shards import expand, read_samples, row_of
from rlcap.data.video import UNIFORM, FrameChoice

SUBFOLDERS = ("", "images", "frames", "videos")  # where pictures are looked for beside a captions file
LOOKED_AT = 5  # files checked to see whether a folder is the right one


def load_captions(
    source: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    format: str = "auto",
    check_images: bool = True,
    drop_empty: bool | None = False,
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    video_frames: str = UNIFORM,
) -> Dataset:
    """Read captions into rows `image_id`, `image` or `frames` or `video` and `video_frames`, `references`, `split`; no
    picture is opened.

    Args:
        source: a Karpathy JSON, a COCO captions JSON or a JSON-lines file; a data set of `datasets` (hub id, saved
            folder, parquet files); or tar shards (braces, globs, a folder, any fsspec address), whose headers are gone
            through once. `format` says which where "auto", which looks at names and content, should not decide.
        images: the folder that relative paths in `source` are under. Default: the folder of `source`, or its `images/`,
            `frames/` or `videos/`: the first in which one of the first five files lies.
        split: the rows to keep; None keeps all. Sources that do not name their split (COCO files, tar shards, a data
            set that is not split): there it is the name given to the rows (default "train").
        check_images: False reads captions whose pictures may be elsewhere (to score texts, to build a corpus).
        drop_empty: leave out captions without a letter in them instead of refusing the file; None keeps them.
        columns: which columns, keys or endings are the picture, the references, the id and the split.
        video_frames: which frames of a video count (see `rlcap.data.video.FrameChoice`), where the row has no
            `timestamps` of its own.

    Lines of JSON that repeat an `image_id` with the same picture add their captions to it. Raises ValueError naming the
    file, the line or key and what to do: a missing file or folder, unreadable JSON, an unknown layout, two pictures
    under one id, pictures mixed with clips, an empty caption, a split without rows.
    """
    name = os.fspath(source)
    kind = kind_of(name, format)
    split = None if split is None else split_name(split)
    folder = None if images is None else Path(images)
    if folder is not None and kind == "tar":
        raise ValueError(f"tar shards hold their pictures; a folder of pictures ({folder}) goes with caption files")
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder of pictures (--images, for the paths in {name})")

    held: Dataset | None = None
    found: Iterable[CaptionRow]
    if kind == "tar":
        samples = (sample for shard in expand(name) for _, sample in read_samples(shard))
        found = (row_of(sample, columns, split or "train") for sample in samples)
    elif kind == "datasets":
        found, held = read_tables(name, split, columns)
    else:
        found = read_file(Path(name), kind if kind != "file" else format, split, columns)
    rows = _merged(found)
    if not rows:
        raise ValueError(f"{name} has no rows")
    rows = of_split(rows, split, name)
    _check_captions(rows, drop_empty, name)
    if kind != "tar" and held is None:
        put_under(rows, picture_folder(rows, folder, Path(name), check_images))
    return as_dataset(rows, held, FrameChoice.parse(video_frames), name)


def require_references(dataset: Dataset) -> None:
    """Raise ValueError naming the pictures that have no references, which training on captions needs."""
    column = dataset.select_columns(["image_id", "references"])
    without = [row["image_id"] for row in column if not row["references"]]
    if without:
        raise ValueError(
            f"{len(without)} of {len(dataset)} pictures have no references: {listed(without)}; "
            "add captions for them or leave them out"
        )


def _merged(rows: Iterable[CaptionRow]) -> list[CaptionRow]:
    merged: dict[str, CaptionRow] = {}
    for row in rows:
        first = merged.setdefault(row.image_id, row)
        if first is row:
            continue
        if first.visual != row.visual:
            raise ValueError(
                f'{row.where}: image_id "{row.image_id}" is {shown(row.visual)} here and {shown(first.visual)} at '
                f"{first.where}; give every picture its own image_id"
            )
        if first.split != row.split:
            raise ValueError(
                f'{row.where}: "{row.image_id}" is in the split "{row.split}" here and "{first.split}" at {first.where}'
            )
        first.references = first.references + row.references
    return list(merged.values())


def of_split(rows: list[CaptionRow], split: str | None, source: str) -> list[CaptionRow]:
    if split is None:
        return rows
    kept = [row for row in rows if row.split == split]
    if not kept:
        there = ", ".join(f'"{name}" ({count})' for name, count in Counter(row.split for row in rows).items())
        raise ValueError(
            f'{source} has no rows in the split "{split}"; there are {there}. Name one of these (--split; of a '
            "training --train_split and --val_split), the key that says it (--split-column) or, of a training, another "
            "file (--val_data); it goes without one by --eval_strategy no"
        )
    return kept


def _check_captions(rows: list[CaptionRow], drop_empty: bool | None, source: str) -> None:
    if drop_empty is None:
        return
    empty = [row.image_id for row in rows if not all(caption.strip() for caption in row.references)]
    if empty and not drop_empty:
        raise ValueError(
            f"{source}: {len(empty)} pictures have an empty caption: {listed(empty)}; "
            "correct them, or leave such captions out (drop_empty_captions: true, or drop_empty=True)"
        )
    for row in rows:
        row.references = [caption.strip() for caption in row.references if caption.strip()]


def picture_folder(rows: list[CaptionRow], folder: Path | None, path: Path, check: bool) -> Path:
    """The folder under which the first files lie.

    One of the first five is enough: single files that are missing are named, counted and skipped when they are opened.
    """
    candidates = [path.parent / name for name in SUBFOLDERS] if folder is None else [folder]
    files = [row.pictures[0] for row in rows[:LOOKED_AT]]
    for candidate in candidates:
        there = [candidate / file for file in files if (candidate / file).is_file()]
        if there:
            remember(str(there[0]))
            return candidate
    if not check:
        return candidates[0]
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise ValueError(
        f"none of the first pictures of {path} ({listed(files)}) lies in {looked}: "
        "name their folder (--images DIR); where captions are enough, --captions-only of `rlcap chains` and "
        "`rlcap data check`, or check_images=False in Python, reads them alone"
    )


def put_under(rows: list[CaptionRow], folder: Path) -> None:
    above = "" if folder == Path() else str(folder)
    for row in rows:  # by os.path: pathlib's ten microseconds a row tell where there are millions
        paths = [os.path.join(above, path) for path in row.pictures]
        row.visual = paths if isinstance(row.visual, list) else paths[0]


def as_dataset(rows: list[CaptionRow], held: Dataset | None, choice: FrameChoice, source: str) -> Dataset:
    kind = rows[0].kind
    other = next((row for row in rows if row.kind != kind), None)
    if other is not None:
        names = {"image": "pictures", "frames": "clips", "video": "videos"}
        raise ValueError(
            f"{source} mixes {names[kind]} ({rows[0].where}) with {names[other.kind]} ({other.where}); a picture is a "
            'clip of one frame: give "frames" with one path'
        )
    text = Value("string")
    features: dict[str, Any] = {"image_id": text, kind: List(text) if kind == "frames" else text}
    columns: dict[str, list[Any]] = {"image_id": [row.image_id for row in rows], kind: [row.visual for row in rows]}
    if kind == "video":
        chosen = (choice if row.timestamps is None else FrameChoice.at(row.timestamps) for row in rows)
        columns["video_frames"] = list(map(str, chosen))
    columns["references"] = [row.references for row in rows]
    columns["split"] = [row.split for row in rows]
    features = {name: features.get(name, List(text) if name == "references" else text) for name in columns}
    if held is None:
        # As `Dataset.from_dict`, which would look at every text by itself.
        return Dataset(InMemoryTable.from_pydict(columns, schema=Features(features).arrow_schema))
    del columns[kind], features[kind]
    order = ["image_id", kind, *list(columns)[1:]]
    return joined(rows, columns, Features(features), held).select_columns(order)


def listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
