"""Data sets of the `datasets` library: by hub id, saved to a folder, or as parquet files; pictures stay where they are.

The pictures that such a set holds are neither decoded nor copied; only ids, captions and splits are read.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import datasets
import pyarrow.compute
from datasets import Dataset, DatasetDict, Features, List, Value
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from rlcap.data.columns import Columns, captions_of, root, text_of, timestamps_of
from rlcap.data.rows import CaptionRow
from rlcap.data.source_kind import is_saved, parquet_files
from rlcap.data.splits import split_name

BATCH = 1000


def read_tables(
    source: str, split: str | None, columns: Columns, more: Sequence[str] = ()
) -> tuple[list[CaptionRow], Dataset | None]:
    """Return the rows of a data set and, where it holds the pictures itself, those, `number` of a row being its place.

    The split of a row is what its column of that name says, else the split of the data set ("validation" counts as
    "val"), else `split`, else "train". Without a column of ids the name of the picture's file is the id where all have
    different ones, else the split and the number of the row in it. With `more` the rows carry what stands in those
    columns, as it is, instead of captions. Raises ValueError where there is no such data set, a column is missing or of
    another type.
    """
    rows: list[CaptionRow] = []
    held: list[Dataset] = []
    for name, part in _parts(source, split).items():
        where = f'{source}, split "{name}"' if name else source
        chosen = columns.among(part.column_names, where)
        if more:
            chosen = replace(chosen, references=())
        elif not chosen.references:
            raise ValueError(
                f"{where} has no captions: name them (--references-column); its columns are "
                f"{', '.join(part.column_names)}"
            )
        pictures = _pictures(part, chosen, where)
        rows.extend(_rows(part, pictures, chosen, name, split or "train", where, len(rows), more))
        if pictures is not None:
            held.append(pictures)
    if held and sum(map(len, held)) != len(rows):
        raise ValueError(f"{source} holds the pictures of some splits and names the files of others")
    return rows, datasets.concatenate_datasets(held) if held else None


def _parts(source: str, split: str | None) -> dict[str, Dataset]:
    """Split -> data set; "" where the data set is not split."""
    files = parquet_files(source)
    if os.path.exists(source) and not files and not is_saved(source):
        raise ValueError(f"{source} was not saved by `datasets` and holds no parquet files")
    loaded: Any
    try:
        if is_saved(source):
            loaded = datasets.load_from_disk(source)
        elif files:
            where = {"data_dir": source} if os.path.isdir(source) else {"data_files": files}
            loaded = datasets.load_dataset("parquet", **where)  # type: ignore[arg-type]
        else:
            name, _, configuration = source.partition(":")
            loaded = datasets.load_dataset(name, configuration or None)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        if os.path.exists(source):
            raise ValueError(f"{source} cannot be read by `datasets` ({told})") from error
        raise ValueError(
            f"{source}: there is no such file or folder, and no data set of this name to be had from the hub ({told})"
        ) from error
    if not isinstance(loaded, DatasetDict):
        return {"": loaded}
    if os.path.isfile(source):
        return {"": next(iter(loaded.values()))}  # one file has no splits; `datasets` calls it train
    parts = {split_name(str(name)): part for name, part in loaded.items()}
    return {split: parts[split]} if split in parts and "split" not in parts[split].column_names else parts


def _pictures(part: Dataset, columns: Columns, where: str) -> Dataset | None:
    """The column of pictures, undecoded and under the name of its kind; None where it holds paths."""
    kind, name = _visual(columns)
    if name not in part.column_names:
        raise ValueError(
            f'{where}: pictures within a column ("{name}") cannot be read; give them a column of their own'
        )
    feature = part.features[name]
    if _is_text(feature):
        return None
    stored: Any
    if isinstance(feature, datasets.Image) and kind == "image":
        stored = datasets.Image(decode=False)
    elif isinstance(feature, datasets.Video) and kind == "video":
        stored = datasets.Video(decode=False)
    elif isinstance(feature, List) and isinstance(feature.feature, datasets.Image) and kind == "frames":
        stored = List(datasets.Image(decode=False))
    elif _is_bytes(feature):
        stored = feature
    else:
        raise ValueError(f'{where}: the column "{name}" holds {feature}; that is no {kind}')
    alone = part.select_columns([name]).cast_column(name, stored)
    return alone if name == kind else alone.rename_column(name, kind)


def _visual(columns: Columns) -> tuple[str, str]:
    kind = "image" if columns.image else "frames" if columns.frames else "video"
    return kind, str(columns.image or columns.frames or columns.video)


def _is_text(feature: Any) -> bool:
    inner = feature.feature if isinstance(feature, List) else feature
    return isinstance(inner, Value) and inner.dtype in ("string", "large_string")


def _is_bytes(feature: Any) -> bool:
    """Whether a column holds files as bytes, or as bytes and path without the note that they are pictures."""
    if isinstance(feature, dict):
        return feature.keys() == {"bytes", "path"}
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")


def _rows(
    part: Dataset,
    pictures: Dataset | None,
    columns: Columns,
    name: str,
    split: str,
    where: str,
    start: int,
    more: Sequence[str],
) -> Iterator[CaptionRow]:
    kind, visual = _visual(columns)
    names = [*columns.references, *(name for name in (columns.id, columns.split) if name)]
    read = {root(name, part.column_names) for name in names} | ({"timestamps", *more} & set(part.column_names))
    files = part[visual][:] if pictures is None else _files(pictures, kind)
    stems = None if columns.id or kind == "frames" else _stems(files)
    number, keys = 0, tuple(part.column_names) if more else ()
    for batch in part.select_columns(sorted(read)).iter(batch_size=BATCH):
        assert isinstance(batch, dict)
        for values in zip(*batch.values(), strict=True):
            item = dict(zip(batch, values, strict=True))
            here = f"{where}, row {number}"
            if columns.id:
                image_id = text_of(item, columns.id, here)
            else:
                image_id = stems[number] if stems else f"{name}-{number}" if name else str(number)
            yield CaptionRow(
                image_id=image_id,
                visual=files[number],
                references=captions_of(item, columns, here),
                split=split_name(text_of(item, columns.split, here)) if columns.split else name or split,
                where=here,
                is_video=kind == "video",
                timestamps=timestamps_of(item, here) if kind == "video" else None,
                number=-1 if pictures is None else start + number,
                more={key: item[key] for key in more if item.get(key) is not None},
                keys=keys,
            )
            number += 1


def _files(pictures: Dataset, kind: str) -> list[Any]:
    """What tells held pictures apart without reading them: "name (so many bytes)"."""
    files: list[Any] = []
    for table in pictures.with_format("arrow").iter(batch_size=BATCH):
        column = table.column(kind)  # type: ignore[union-attr]
        if kind == "frames":
            files.extend([f"({len(frames)} frames)"] * max(len(frames), 1) for frames in column)
            continue
        names: list[str | None] = [None] * len(column)
        if not isinstance(pictures.features[kind], Value):
            names = pyarrow.compute.struct_field(column, "path").to_pylist()
            column = pyarrow.compute.struct_field(column, "bytes")
        sizes = pyarrow.compute.binary_length(column).to_pylist()
        files.extend(f"{name or ''} ({size or 0} bytes)" for name, size in zip(names, sizes, strict=True))
    return files


def _stems(files: list[str]) -> list[str] | None:
    """The names of the files without folder and ending, where every row has one and no two the same."""
    stems = [os.path.splitext(os.path.basename(re.sub(r" \(\d+ bytes\)$", "", file)))[0] for file in files]
    return stems if all(stems) and len(set(stems)) == len(stems) else None


def joined(rows: list[CaptionRow], texts: dict[str, list[Any]], features: Features, pictures: Dataset) -> Dataset:
    """Return the held pictures of `rows` with the columns `texts` beside them; nothing of the pictures is copied."""
    whole: dict[str, list[Any]] = {name: [None] * len(pictures) for name in texts}
    for at, row in enumerate(rows):
        for name, values in texts.items():
            whole[name][row.number] = values[at]
    beside = Dataset.from_dict(whole, features=features)
    return datasets.concatenate_datasets([pictures, beside], axis=1).select([row.number for row in rows])


def with_columns(rows: Dataset, columns: Dataset) -> Dataset:
    """Return the rows with further columns beside them; rows that were selected are copied, without a bar."""
    drawn = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return datasets.concatenate_datasets([rows, columns], axis=1)
    finally:
        if drawn:
            enable_progress_bars()
