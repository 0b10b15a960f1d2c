"""Reads an offline W&B run back: scalars from its `.wandb` file, table rows from its media files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768  # LevelDB log format: blocks of records, each with checksum (4), length (2) and type (1)


def history(run_folder: Path) -> list[dict[str, Any]]:
    """What each `run.log` call wrote, in order: metric -> value."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(run_folder, "history")
    ]


def definitions(run_folder: Path) -> dict[str, Any]:
    """What `define_metric` said of each metric or pattern: name -> W&B's MetricRecord, the last one."""
    return {record.metric.name or record.metric.glob_name: record.metric for record in records(run_folder, "metric")}


def increments(run_folder: Path, name: str) -> int:
    """How many files a table has been logged in."""
    return len(list((run_folder / "files/media/table").glob(f"{name}*.json")))


def table(run_folder: Path, name: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table over all its increments, oldest first."""
    columns: list[str] = []
    rows = []
    files = (run_folder / "files/media/table").glob(f"{name}*.json")
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
        content = json.loads(path.read_text())
        columns = content["columns"]
        rows.extend(content["data"])
    return columns, rows


def records(run_folder: Path, kind: str) -> list[Any]:
    """The records of one kind (`history`, `metric`, `run` …) in the order in which they were written."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # finish() returns before the last records are on the disk; this waits for W&B's process
    (path,) = run_folder.glob("*.wandb")
    found = []
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == kind:
            found.append(record)
    return found


def _records(content: bytes) -> Iterator[bytes]:
    position, parts = 7, []  # W&B's own header of 7 bytes
    while position + 7 <= len(content):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        parts.append(content[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []
