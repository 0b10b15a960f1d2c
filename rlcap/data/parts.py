"""Work shared out over processes: each appends lines to a file of its own, and what is in any is not done again."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.disk import writing


class Parts:
    """The folder OUTPUT.parts beside an output: a file a rank, a header in its first line and then a line a batch.

    head: what determines the work, as JSON; parts with another one are refused.
    """

    def __init__(self, output: Path, head: Mapping[str, Any]) -> None:
        self.folder = output.with_name(output.name + ".parts")
        self.head = head

    def records(self) -> Iterator[tuple[Path, int, Any]]:
        """Yields every whole line of every part, headers apart, with its file and the byte at which it begins.

        Raises ValueError for a part with another header, and FileNotFoundError where another rank removes the folder
        just now.
        """
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                at = 0
                for number, line in enumerate(file):
                    if not line.endswith(b"\n"):
                        break
                    record = json.loads(line)
                    if number == 0 and record != self.head:
                        raise ValueError(
                            f"{path} was begun with other settings than these: {_difference(record, self.head)}; "
                            f"remove the folder {self.folder} to start anew, or choose another output"
                        )
                    if number:
                        yield path, at, record
                    at += len(line)

    def begun(self) -> bool:
        """Whether a rank has begun this work."""
        return any(self.folder.glob("*.jsonl"))

    def part(self, rank: int) -> "Part":
        """The file of a rank, open to be appended to."""
        return Part(self.folder / f"{rank}.jsonl", self.head)

    def remove(self) -> None:
        """Removes the folder, once the output is there."""
        shutil.rmtree(self.folder, ignore_errors=True)


def refuse_other(output: Path, made: Mapping[str, Any] | None, head: Mapping[str, Any]) -> None:
    """Raises ValueError for an `output` that is there already; `made`: the header that it has, None without one."""
    if not output.exists():
        return
    how = "was not written by this command, or was changed since"
    if isinstance(made, Mapping):
        how = f"was made with other settings than these: {_difference(made, head)}"
    raise ValueError(f"{output} {how}; choose another output, or let it be replaced (--overwrite)")


class Part:
    """A rank's file: every line is on the disk before the next one is written; a half line is cut off."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path.open("a+b")
        self.file.seek(0)
        whole = self.file.read().rfind(b"\n") + 1
        self.file.truncate(whole)
        if not whole:
            self.append(head)

    def append(self, line: Mapping[str, Any]) -> None:
        """Writes one line of JSON."""
        with writing(f"results of {self.path.name}", self.path.parent):
            self.file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], within: str = "") -> str:
    told = []
    for key in {**theirs, **ours}:
        before, now = theirs.get(key), ours.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping) and before != now:
            told.append(_difference(before, now, f"{within}{key}."))
        elif before != now:
            told.append(f"{within}{key} was {before!r} and is {now!r}")
    return "; ".join(told)
