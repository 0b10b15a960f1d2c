"""Files of annotations: found or named as missing, and read with their place in messages."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlcap.data.rows import shown


def find(data: str, names: Sequence[str], what: str) -> Path:
    """The first of `names` in the folder `data`, or in a folder in it; raises ValueError naming them all."""
    folder = Path(data)
    if not folder.is_dir():
        raise ValueError(f"{data}: there is no such folder of {what}")
    for name in names:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.is_file():
                return path
    raise ValueError(f"{data}: {' or '.join(names)} is not there, nor in a folder in it ({what})")


def picture_folder(data: str, given: Path | None, names: Sequence[str] = ("images",)) -> Path:
    """The folder given, else the first of `names` in the data's folder, else that folder itself."""
    if given is not None:
        if not given.is_dir():
            raise ValueError(f"{given}: there is no such folder of pictures")
        return given
    folder = Path(data) if Path(data).is_dir() else Path(data).parent
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def read_json(path: Path) -> Any:
    """A JSON document; raises ValueError naming the file where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error


def json_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a JSON-lines file, each with its place ("file: line 3"); empty lines are skipped."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}: line {number}"
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} is not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(item, dict):
                raise ValueError(f"{where} must be an object, not {shown(item)}")
            yield item, where


def tab_separated(path: Path, columns: int) -> Iterator[tuple[list[str], str]]:
    """The fields of each line with its place; raises ValueError for a line with another number of fields."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\r\n").split("\t")
            where = f"{path}: line {number}"
            if not line.strip():
                continue
            if len(fields) != columns:
                raise ValueError(f"{where} has {len(fields)} fields, not {columns} between tabs: {shown(line)}")
            yield fields, where


def number_of(text: Any, where: str, name: str = "a rating") -> float:
    """A rating as a number; raises ValueError naming its place."""
    try:
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {name} must be a number, not {shown(text)}") from None
