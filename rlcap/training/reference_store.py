"""Reference log-probabilities of chains on the disk: computed once, by all processes together, and never twice.

What determines them makes up a key: the captioner's weights, the chains, and the settings under which they are scored.
A folder of that name holds `header.json`, which says what the key is made of, and a file a process, to which a record a
chain is appended. A killed run loses a batch; the next one reads all files, however many processes wrote them, and
does what is left.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import torch
from PIL import Image

from captioners.base import Captioner
from rlcap.chain_scoring import LogProbs
from rlcap.data.blind import VISUAL
from rlcap.disk import writing
from rlcap.tracking.run_directory import write_json

FORMAT = 1
UNSCORED = -1  # in the place of the number of captions: the picture cannot be decoded
FLUSHED = 32  # chains between two writes to the disk
Score = Callable[[Sequence[int]], Iterator[tuple[int, LogProbs | None]]]


def stored_chains(
    folder: Path,
    header: Mapping[str, Any],
    number: int,
    score: Score,
    *,
    rank: int = 0,
    world: int = 1,
    wait: Callable[[], None] = lambda: None,
) -> list[LogProbs | None]:
    """The log-probabilities of `number` chains, by their positions, from the disk; `score` computes what is not there.

    folder: of all keys; processes on several machines need one that they share. header: what determines the values.
    score: positions to (position, log-probabilities), None for a picture that cannot be decoded. wait: until all
    processes are here. Rank `rank` of `world` does every `world`-th of the chains that are missing.
    """
    place = folder / key_of(header)
    known = _read(place)
    wait()  # before anybody writes: all see the same chains missing
    missing = [position for position in range(number) if position not in known]
    mine = missing[rank::world]
    if mine:
        if rank == 0:
            write_json(place / "header.json", dict(header))
        with _Records(place / f"{rank}.bin") as records:
            for position, chain in score(mine):
                records.append(position, chain)
    wait()
    known = _read(place) if missing else known
    lost = [position for position in range(number) if position not in known]
    if lost:
        raise ValueError(
            f"{place} lacks the reference of {len(lost)} chains that other processes wrote: reference_dir must be a "
            "folder that all machines share"
        )
    return [known[position] for position in range(number)]


def key_of(header: Mapping[str, Any]) -> str:
    """The name of the folder of what a header determines."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **header}, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of(dataset: datasets.Dataset) -> str:
    """A hash of the chains of a data set: their ids, captions, order, and the paths (not the content) of pictures."""
    digest = hashlib.sha256()
    columns = [name for name in ("image_id", *VISUAL, "captions") if name in dataset.column_names]
    for row in dataset.select_columns(columns):
        digest.update(json.dumps([row[name] for name in columns], default=_named).encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def preprocessing_of(captioner: Captioner) -> str:
    """A hash of what a captioner's preprocessor makes of a fixed picture, which sees every setting."""
    made = captioner.preprocess([Image.linear_gradient("L").resize((160, 120)).convert("RGB")])
    digest = hashlib.sha256()
    for name, tensor in sorted(made.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _named(value: Any) -> str:
    """Pictures that are no paths: a hash of their bytes."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


class _Records:
    """A process's file, appended to; half a record at its end, which a kill has left, is cut off first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = path.parent
        self._file: BinaryIO = path.open("a+b")
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(_parse(content)[1])
        self._since_flush = 0

    def append(self, position: int, chain: LogProbs | None) -> None:
        lengths = [len(own) for own in chain or ()]
        head = [position, UNSCORED if chain is None else len(lengths), *lengths]
        self._file.write(np.array(head, dtype="<i8").tobytes())
        for own in chain or ():
            self._file.write(own.numpy().astype("<f4").tobytes())
        self._since_flush += 1
        if self._since_flush >= FLUSHED:
            self._flush()

    def _flush(self) -> None:
        with writing("the reference's log-probabilities", self._folder):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._since_flush = 0

    def __enter__(self) -> "_Records":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._file.close()


def _read(place: Path) -> dict[int, LogProbs | None]:
    found: dict[int, LogProbs | None] = {}
    for path in sorted(place.glob("*.bin")):
        found.update(_parse(path.read_bytes())[0])
    return found


def _parse(content: bytes) -> tuple[dict[int, LogProbs | None], int]:
    """The whole records of a file, and the byte at which they end."""
    found: dict[int, LogProbs | None] = {}
    end = 0
    while len(content) - end >= 16:
        position, captions = np.frombuffer(content, "<i8", 2, end).tolist()
        count = max(captions, 0)
        lengths = np.frombuffer(content[end + 16 : end + 16 + 8 * count], "<i8").tolist()
        start = end + 16 + 8 * count
        stop = start + 4 * sum(lengths)
        if len(lengths) < count or stop > len(content):
            break
        values = torch.from_numpy(np.frombuffer(content[start:stop], "<f4").astype(np.float32))
        found[position] = None if captions == UNSCORED else list(values.split(lengths))
        end = stop
    return found, end
