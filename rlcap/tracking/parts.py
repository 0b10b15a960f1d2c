"""The files in which processes leave what is done until all of it is: a header, then a line a record, never half."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Part:
    """A process's own file in a folder of parts, to append to: on the disk before the next; a half line is cut off."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a+b")
        self.file.seek(0)
        whole = self.file.read().rfind(b"\n") + 1
        self.file.truncate(whole)
        if not whole:
            self.append(head)

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record as a line."""
        self.file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def read_parts(folder: Path, head: Mapping[str, Any]) -> Iterator[tuple[Path, int, Any]]:
    """Yields the whole records of all parts, each with its file and the byte at which its line begins.

    Raises ValueError where a part was begun with another header, FileNotFoundError where one goes meanwhile.
    """
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            at = 0
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                record = json.loads(line)
                if number == 0 and record != head:
                    raise ValueError(
                        f"{path} was begun with other settings than these: {_difference(record, head)}; remove "
                        f"the folder {folder} to start anew, or choose another output"
                    )
                if number:
                    yield path, at, record
                at += len(line)


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    return "; ".join(f"{key} was {theirs.get(key)!r} and is {ours.get(key)!r}" for key in keys)
