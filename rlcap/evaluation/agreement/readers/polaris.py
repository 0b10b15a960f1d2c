"""Polaris (Wada et al. 2024) and tables like it: caption, references, picture and a mean rating in each row.

The real table was not at hand: the columns are those that its page names, and are tested on small tables made so.
"""

import ast
import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.data.annotation_files import json_lines, number_of, picture_folder
from rlcap.data.rows import shown, text_list
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Found, rated
from rlcap.evaluation.agreement.readers import Reading
from rlcap.evaluation.scoring import TableRow

NAME = "polaris"
PROTOCOL = "every row is a sample, of the test split where splits are named; τ-c is the headline (Polos)"
TABLES = (".csv", ".tsv", ".jsonl")
# What a column may be called: by the data set's page, by the authors' CSV, by others.
CAPTION = ("cand", "mt", "caption")
REFERENCES = ("refs", "references")
RATING = ("human_score", "score", "rating")
IMAGE = ("img", "image")
FILE = ("imgid", "image_id")  # the name of a file, in tables that hold no picture
Row = tuple[Mapping[str, Any], str]  # its columns, and where it stands


def read(data: str, reading: Reading) -> Benchmark:
    """From a data set of `datasets` (hub id, saved folder, parquet), a CSV or a JSON-lines file.

    Columns: cand, refs (a list, or its text in CSV), human_score, and img (a picture or path), or imgid (a file name).
    Of a data set with splits, or a table with a column `split`, the split is read that is asked for, else "test"; a
    table without is read whole. A picture is known by its path or by its content, so that its captions go together.
    Raises ValueError naming the row and column, and for a split that is not there.
    """
    folder = picture_folder(data, reading.images)
    found: Found = {}
    for row, where in _rows(data, reading.split):
        caption = row[_name(row, CAPTION, where)]
        if not isinstance(caption, str):
            raise ValueError(f"{where}: the caption must be a text, not {shown(caption)}")
        image_id, visual = _picture(row, folder, where)
        rating = number_of(row[_name(row, RATING, where)], where)
        references = tuple(_references(row, where))
        candidate = Candidate(image_id, caption, references, visual)
        found.setdefault((image_id, caption, references), (candidate, []))[1].append(rating)
    return rated(NAME, found, PROTOCOL, data)


def _rows(data: str, split: str | None) -> Iterable[Row]:
    if data.endswith(TABLES):
        return _of_split(list(_of_table(data)), split, data)
    import datasets

    loaded = _data_set(data)
    if not isinstance(loaded, datasets.DatasetDict):
        return _of_split(list(_of_data_set(data, loaded)), split, data)
    split = split or "test"
    if split not in loaded:
        raise ValueError(f"{data} has no split {split!r}; there are {', '.join(map(str, loaded))}")
    return _of_data_set(data, loaded[split])


def _of_split(rows: Sequence[Row], split: str | None, data: str) -> list[Row]:
    """The rows of a split by their column `split`; all of a table that names none, where none is asked for."""
    if split is None and not any(row.get("split") for row, _ in rows):
        return list(rows)
    split = split or "test"
    kept: dict[str, list[Row]] = {}
    for row, where in rows:
        if not row.get("split"):
            raise ValueError(f"{where} is of no split, and the split {split!r} is to be read")
        kept.setdefault(row["split"], []).append((row, where))
    if split not in kept:
        raise ValueError(f"{data} has no split {split!r}; there are {', '.join(map(str, kept))}")
    return kept[split]


def _of_table(data: str) -> Iterator[Row]:
    if not os.path.isfile(data):
        raise ValueError(f"{data}: there is no such table")
    if data.endswith(".jsonl"):
        yield from json_lines(Path(data))
        return
    with Path(data).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if data.endswith(".tsv") else ",")
        yield from ((row, f"{data}: row {number}") for number, row in enumerate(reader, start=1))


def _data_set(data: str) -> Any:
    """The data set, or its splits."""
    import datasets

    from rlcap.data.source_kind import is_saved, parquet_files

    files = parquet_files(data)
    if is_saved(data):
        return datasets.load_from_disk(data)
    if files and os.path.isdir(data):
        return datasets.load_dataset("parquet", data_dir=data)
    if files:  # one file has no splits; `datasets` would call it train
        return datasets.load_dataset("parquet", data_files=files, split="train")
    if os.path.exists(data):
        raise ValueError(f"{data} is no table: give CSV, JSON lines, parquet files or a data set of `datasets`")
    try:
        return datasets.load_dataset(data)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise ValueError(f"{data}: there is no such file, nor such a data set to be had ({error})") from error


def _of_data_set(data: str, rows: Any) -> Iterator[Row]:
    """Rows of a data set, its pictures undecoded and read when they are opened."""
    import datasets

    held = next((name for name in IMAGE if isinstance(rows.features.get(name), datasets.Image)), None)
    if held is not None:
        rows = rows.cast_column(held, datasets.Image(decode=False))
        pictures = rows.select_columns([held]).rename_column(held, "image")
    for number, row in enumerate(rows):
        place = f"{data}, row {number}"
        yield (row if held is None else {**row, held: _Held(row[held], TableRow(pictures, number))}), place


class _Held:
    """A picture in the table: the row to open it by, and an id from its content."""

    def __init__(self, content: Mapping[str, Any], visual: TableRow) -> None:
        data = content.get("bytes")
        self.image_id = hashlib.sha256(data).hexdigest()[:16] if data else str(content.get("path"))
        self.visual = visual


def _picture(row: Mapping[str, Any], folder: Path, where: str) -> tuple[str, Mapping[str, Any]]:
    image = row[_name(row, (*IMAGE, *FILE), where)]
    if isinstance(image, _Held):
        return image.image_id, image.visual
    if not isinstance(image, str) or not image:
        raise ValueError(f"{where}: the picture must be a path, not {shown(image)}")
    return image, {"image": str(folder / image)}


def _references(row: Mapping[str, Any], where: str) -> list[str]:
    key = _name(row, REFERENCES, where)
    value = row[key]
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{where}: {key!r} is no list of texts: {shown(value)}") from error
    return text_list(value, where, key)


def _name(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if name in row:
            return name
    raise ValueError(f"{where} has none of {', '.join(names)}; it has {', '.join(map(str, row))}")
