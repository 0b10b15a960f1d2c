"""What a source is: a captions file, tar shards, or a data set of the `datasets` library."""

import os
import re
from pathlib import Path

FORMATS = ("auto", "karpathy", "coco", "jsonl", "datasets", "tar")
NAMED = 5  # items that an error message lists
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def kind_of(source: str, format: str) -> str:
    """Return "file", "tar" or "datasets"; nothing but names is looked at.

    A folder is a data set where it was saved by `datasets` or holds parquet files, and shards where it holds tar files.
    "owner/name" or "owner/name:configuration" is on the hub where no such file is there. Raises ValueError for an
    unknown `format`, a file that is missing and a folder that is neither.
    """
    if format not in FORMATS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, not "{format}"')
    if format != "auto":
        return format if format in ("tar", "datasets") else _file(source)
    if source.endswith((".tar", ".tar}", ".tar*")):
        return "tar"
    if source.endswith(".parquet") or is_saved(source):
        return "datasets"
    if os.path.isdir(source):
        return _folder(Path(source))
    if _HUB_ID.fullmatch(source) and not os.path.exists(source) and not source.endswith((".json", ".jsonl")):
        return "datasets"
    return _file(source)


def is_saved(source: str) -> bool:
    """Whether `source` is a folder that `save_to_disk` of `datasets` wrote."""
    return any(os.path.isfile(os.path.join(source, name)) for name in ("dataset_dict.json", "state.json"))


def parquet_files(source: str) -> list[str]:
    """Return the parquet files that a source names (a file, or those in a folder at any depth), sorted."""
    if os.path.isdir(source):
        return sorted(str(path) for path in Path(source).rglob("*.parquet"))
    return [source] if os.path.isfile(source) and source.endswith(".parquet") else []


def _folder(path: Path) -> str:
    if any(path.glob("*.tar")):
        return "tar"
    if parquet_files(str(path)):
        return "datasets"
    found = sorted(file.name for file in path.iterdir() if file.suffix in (".json", ".jsonl"))
    raise ValueError(f"{path} is a folder: name the captions file in it ({', '.join(found[:NAMED]) or 'none there'})")


def _file(source: str) -> str:
    if os.path.isdir(source):
        return _folder(Path(source))
    if not os.path.isfile(source):
        raise ValueError(f"{source}: there is no such captions file")
    return "file"
