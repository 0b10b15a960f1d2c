"""Reference log-probabilities of chains on the disk: computed once, by all processes together, and never twice.

What determines them makes up a key: the captioner's weights, the chains, and the settings under which they are scored.
A folder of that name holds `header.json`, which says what the key is made of, and files of records, one a chain. Every
process of every run writes a file of its own and none of another's, so runs may share the folder, at once too. A killed
run loses a batch; the next one reads all files, whoever wrote them, and does what is left.

A record is a checksum (CRC-32) of all that follows it, the number of bytes behind that number, both uint32, and int64:
the chain's position, the number of its captions, their lengths; then float32: the values. All little-endian.
"""

import hashlib
import json
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from captioners.base import Captioner
from rlcap.chain_scoring import LogProbs
from rlcap.data.features import write_whole
from rlcap.disk import writing

FORMAT = 2
UNSCORED = -1  # in the place of the number of captions: the picture cannot be decoded
FLUSHED = 32  # chains a write to the disk
_CHECKSUM, _FRAME = struct.Struct("<I"), struct.Struct("<II")
Score = Callable[[Sequence[int]], Iterator[tuple[int, LogProbs | None]]]


def stored_chains(
    folder: Path,
    header: Mapping[str, Any],
    number: int,
    score: Score,
    *,
    rank: int = 0,
    world: int = 1,
    retry: bool = True,
    wait: Callable[[], None] = lambda: None,
) -> list[LogProbs | None]:
    """The log-probabilities of `number` chains, by their positions, from the disk; `score` computes what is not there.

    folder: of all keys; processes on several machines need one that they share. header: what determines the values.
    score: positions to (position, log-probabilities), None for a picture that cannot be decoded. retry: whether such
    pictures of earlier runs are tried again. wait: until all processes are here. Rank `rank` of `world` does those that
    are missing of every `world`-th chain.
    """
    place = folder / key_of(header)
    known = _read(place)
    done = {position for position, chain in known.items() if chain is not None or not retry}
    # Of all chains, not of the missing ones: beside a run that is writing, no two processes see the same ones missing.
    mine = [position for position in range(rank, number, world) if position not in done]
    if mine:
        with _Records(place, header) as records:
            for position, chain in score(mine):
                if chain is not None or position not in known:
                    records.append(position, chain)
    wait()
    if len(done) < number:
        known = _read(place)
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


def preprocessing_of(captioner: Captioner) -> str:
    """A hash of what a captioner's preprocessor makes of a fixed picture, which sees every setting."""
    made = captioner.preprocess([Image.linear_gradient("L").resize((160, 120)).convert("RGB")])
    digest = hashlib.sha256()
    for name, tensor in sorted(made.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


class _Records:
    """The file of one process alone, which is there from the first records on."""

    def __init__(self, place: Path, header: Mapping[str, Any]) -> None:
        self._place, self._path = place, place / f"{uuid.uuid4().hex}.bin"
        self._waiting: list[bytes] = []
        with self._writing():
            place.mkdir(parents=True, exist_ok=True)
            write_whole(place / "header.json", json.dumps(dict(header), indent=1).encode())

    def append(self, position: int, chain: LogProbs | None) -> None:
        self._waiting.append(_record(position, chain))
        if len(self._waiting) >= FLUSHED:
            self._flush()

    def _flush(self) -> None:
        content, self._waiting = b"".join(self._waiting), []
        if content:
            with self._writing(), self._path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    def _writing(self) -> AbstractContextManager[None]:
        return writing("the reference's log-probabilities", self._place)

    def __enter__(self) -> "_Records":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()


def _read(place: Path) -> dict[int, LogProbs | None]:
    """What is known of chains, by their positions: values, or None where no run could decode the picture."""
    found: dict[int, LogProbs | None] = {}
    for path in sorted(place.glob("*.bin")):
        for position, chain in whole_records(path.read_bytes()):
            found[position] = found.get(position) if chain is None else chain
    return found


def _record(position: int, chain: LogProbs | None) -> bytes:
    lengths = [len(own) for own in chain or ()]
    head = [position, UNSCORED if chain is None else len(lengths), *lengths]
    values = (own.numpy().astype("<f4").tobytes() for own in chain or ())
    content = b"".join([np.array(head, dtype="<i8").tobytes(), *values])
    # Over the number of bytes too: of zeros, which a crash may leave, it would else be right.
    sized = struct.pack("<I", len(content)) + content
    return _CHECKSUM.pack(zlib.crc32(sized)) + sized


def whole_records(content: bytes) -> Iterator[tuple[int, LogProbs | None]]:
    """The records of a file up to the first that is torn."""
    start = 0
    while len(content) - start >= _FRAME.size:
        checksum, size = _FRAME.unpack_from(content, start)
        end = start + _FRAME.size + size
        if end > len(content) or zlib.crc32(content[start + _CHECKSUM.size : end]) != checksum:
            return
        yield _parsed(content[start + _FRAME.size : end])
        start = end


def _parsed(content: bytes) -> tuple[int, LogProbs | None]:
    position, captions = np.frombuffer(content, "<i8", 2).tolist()
    if captions == UNSCORED:
        return position, None
    lengths = np.frombuffer(content, "<i8", captions, 16).tolist()
    values = np.frombuffer(content, "<f4", offset=16 + 8 * captions).astype(np.float32)
    return position, list(torch.from_numpy(values).split(lengths))
