"""Grid features of a frozen vision tower, computed once and memory-mapped ever after.

A folder holds `header.json`, which says what the features come from, and shards. Every shard has one writer and four
files: `.ids.json` (the image ids of its rows), `.npy` (fp16 [n, F, N, Dv]), `.state` (a byte a row: 0 to do, 1..254
done with that many frames, 255 undecodable) and `.bad.jsonl` (which picture was undecodable, and why). A row's data
reaches the disk before its state byte does, so a run killed at any moment knows what it has.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

FORMAT = 1
BAD = 255
MOST_FRAMES = 254
NAMED = 20  # ids that an error lists
PROBE_TOLERANCE = 0.02  # of normalised pixel values: above the noise of library versions, below any change of settings


class FeatureStore:
    """Reads a folder of features: `store[image_id]` is a copy, [F, N, Dv] in fp16, with the clip's own F.

    Shards of all ranks and of earlier runs are merged. Nothing is opened before it is needed and nothing open is
    pickled, so a store travels into worker processes.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Raises ValueError where `directory` holds no features."""
        self.directory = Path(directory)
        if not (self.directory / "header.json").is_file():
            raise ValueError(f"{self.directory} holds no features (no header.json): write them with `rlcap features`")
        self._index: dict[str, tuple[str, int, int]] | None = None
        self._bad: dict[str, tuple[str, str]] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory, "_index": None, "_bad": {}, "_arrays": {}}

    @property
    def header(self) -> dict[str, Any]:
        """What the features come from: vision model, hash of its weights, what the preprocessor does, frames."""
        return _read_json(self.directory / "header.json")

    @property
    def bad(self) -> dict[str, tuple[str, str]]:
        """image_id -> (path, reason) of the pictures that could not be decoded when the features were written."""
        self._load_index()
        return self._bad

    def __len__(self) -> int:
        return len(self._load_index())

    def __iter__(self) -> Iterator[str]:
        return iter(self._load_index())

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._load_index()

    def __getitem__(self, image_id: str) -> np.ndarray:
        """Return the features of one picture or clip; raises ValueError naming an id that has none."""
        place = self._load_index().get(image_id)
        if place is None:
            raise ValueError(f'"{image_id}" has no features in {self.directory}: run `rlcap features` on its data set')
        shard, row, frames = place
        return np.array(self._array(shard)[row, :frames])

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Return those of `ids` that have neither features nor a note that they cannot be decoded."""
        index = self._load_index()
        return [image_id for image_id in ids if image_id not in index and image_id not in self._bad]

    def require(self, ids: Iterable[str]) -> None:
        """Raise ValueError naming the first 20 of `ids` that are missing."""
        missing = self.missing(ids)
        if missing:
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise ValueError(
                f"{self.directory} lacks the features of {', '.join(missing[:NAMED])}{more}: run `rlcap features` on "
                "this data set until it ends, on all of its ranks"
            )

    def check(self, header: Mapping[str, Any]) -> None:
        """Raise ValueError naming the differences where the features were not made as `header` says.

        Clips may be shorter than the longest one stored.
        """
        frames = max(self.header["frames"], header["frames"])
        compare_headers(self.header, {**header, "frames": frames}, self.directory)

    def _load_index(self) -> dict[str, tuple[str, int, int]]:
        if self._index is None:
            index: dict[str, tuple[str, int, int]] = {}
            for shard in shards_in(self.directory):
                ids, state = read_shard(self.directory, shard)
                for row in np.flatnonzero((state > 0) & (state < BAD)):
                    index.setdefault(ids[row], (shard, int(row), int(state[row])))
            for shard in shards_in(self.directory):
                notes = read_bad(self.directory, shard)
                self._bad.update((image_id, note) for image_id, note in notes.items() if image_id not in index)
            self._index = index
        return self._index

    def _array(self, shard: str) -> np.ndarray:
        if shard not in self._arrays:
            path = self.directory / f"{shard}.npy"
            try:
                array = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{path} cannot be read ({error}): copy it again, or write the features anew"
                ) from error
            for other, opened in self._arrays.items():
                if opened.shape[2:] != array.shape[2:]:
                    raise ValueError(
                        f"{path} holds grids of {array.shape[2:]} and {other}.npy of {opened.shape[2:]}: "
                        "pictures of one set must give grids of one size"
                    )
            self._arrays[shard] = array
        return self._arrays[shard]


class FeatureWriter:
    """Writes one shard: rows `0..n-1` belong to `ids`; `frames` is the most that a row can hold.

    What `write` and `mark_bad` take counts as done after the next `flush`. A shard that is there already is continued.
    """

    def __init__(self, directory: Path, shard: str, ids: Sequence[str], frames: int) -> None:
        if not 1 <= frames <= MOST_FRAMES:
            raise ValueError(f"a clip can have 1 to {MOST_FRAMES} frames, not {frames}")
        self.directory = directory
        self.shard = shard
        self.frames = frames
        self._data: BinaryIO | None = None
        self._data_start = 0
        self._shape: tuple[int, ...] = ()
        self._unmarked: dict[int, int] = {}
        if not (directory / f"{shard}.ids.json").exists():
            for leftover in (".npy", ".bad.jsonl"):
                (directory / f"{shard}{leftover}").unlink(missing_ok=True)
            write_whole(directory / f"{shard}.state", bytes(len(ids)))
            write_whole(directory / f"{shard}.ids.json", json.dumps(list(ids)).encode())
        self.ids, self.state = read_shard(directory, shard)
        assert self.ids == list(ids), f"{shard} belongs to other pictures"
        self.bad = read_bad(directory, shard)
        self._state_file = (directory / f"{shard}.state").open("r+b")
        self._bad_file = (directory / f"{shard}.bad.jsonl").open("ab")

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        for file in (self._data, self._state_file, self._bad_file):
            if file is not None:
                file.close()

    def write(self, rows: Sequence[int], features: np.ndarray, lengths: Sequence[int]) -> None:
        """Write `features` [b, F, N, Dv] of `rows`, of which `lengths` frames count.

        Raises ValueError naming the picture where values do not fit fp16, where the grid's size differs from that of
        the earlier pictures, where there are more than `frames` frames, and where the disk is too small.
        """
        with np.errstate(over="ignore"):  # told below, with the picture's name
            data = features.astype(np.float16)
        self._open_data(data.shape[2:])
        for row, grid, length in zip(rows, data, lengths, strict=True):
            if not np.isfinite(grid[:length]).all():
                raise ValueError(f'the features of "{self.ids[row]}" hold NaN or values beyond the range of fp16')
            if length > self.frames or grid.shape[1:] != self._shape:
                raise ValueError(
                    f'the features of "{self.ids[row]}" are {(length, *grid.shape[1:])}, those of the pictures before '
                    f"it (at most {self.frames}, {self._shape}): the preprocessor must give one size"
                )
            padded = np.zeros((self.frames, *self._shape), dtype=np.float16)
            padded[:length] = grid[:length]
            assert self._data is not None
            self._data.seek(self._data_start + row * padded.nbytes)
            self._data.write(padded.tobytes())
            self._unmarked[row] = length

    def mark_bad(self, row: int, path: str, reason: str) -> None:
        """Note that the picture of `row` cannot be decoded."""
        note = {"image_id": self.ids[row], "path": path, "reason": reason}
        self._bad_file.write(json.dumps(note).encode() + b"\n")
        self.bad[self.ids[row]] = (path, reason)
        self._unmarked[row] = BAD

    def retry(self, row: int) -> None:
        """Take `row`, noted as bad, as still to do."""
        self._unmarked[row] = 0
        self.flush()

    def flush(self) -> None:
        """Bring data to the disk, and only then the marks that it is there."""
        if not self._unmarked:
            return
        for file in (self._data, self._bad_file):
            if file is not None:
                _sync(file)
        for row, mark in self._unmarked.items():
            self._state_file.seek(row)
            self._state_file.write(bytes([mark]))
            self.state[row] = mark
        _sync(self._state_file)
        self._unmarked.clear()

    def _open_data(self, grid: tuple[int, ...]) -> None:
        if self._data is not None:
            return
        path = self.directory / f"{self.shard}.npy"
        shape = (len(self.ids), self.frames, *grid)
        if not path.exists():
            needed, free = int(np.prod(shape)) * 2, shutil.disk_usage(self.directory).free
            if needed > free:
                raise ValueError(
                    f"the features need {needed / 1e9:.1f} GB in {self.directory}, where {free / 1e9:.1f} GB are free"
                )
            beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            np.lib.format.open_memmap(beside, mode="w+", dtype=np.float16, shape=shape).flush()
            os.replace(beside, path)
        found = np.load(path, mmap_mode="r")
        self._shape = found.shape[2:]
        assert found.shape[:2] == shape[:2], f"{path} is {found.shape}, not {shape}"
        self._data_start = path.stat().st_size - found.nbytes
        self._data = path.open("r+b")


def open_writers(
    directory: Path, header: Mapping[str, Any], ids: Sequence[str], rank: int, world: int
) -> list[FeatureWriter]:
    """Return the writers of `rank`'s share of `ids` (every `world`-th): shards to continue, and one for what is new.

    What other numbers of ranks have finished stays and is not done again. Raises ValueError naming the differences
    where `directory` holds the features of another model, preprocessor or number of frames.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "header.json").exists():
        write_whole(directory / "header.json", json.dumps(dict(header), indent=1).encode())
    compare_headers(_read_json(directory / "header.json"), header, directory)
    frames = int(header["frames"])
    prefix = f"rank-{rank:05d}-of-{world:05d}-"
    mine = list(ids[rank::world])
    wanted, covered, writers = set(mine), set(), []
    shards = shards_in(directory)
    for shard in shards:
        shard_ids, state = read_shard(directory, shard)
        if shard.startswith(prefix):
            covered.update(shard_ids)
            if wanted.intersection(shard_ids):
                writers.append(FeatureWriter(directory, shard, shard_ids, frames))
        else:
            covered.update(shard_ids[row] for row in np.flatnonzero(state))
    new = [image_id for image_id in mine if image_id not in covered]
    if new:
        number = sum(shard.startswith(prefix) for shard in shards)
        writers.append(FeatureWriter(directory, f"{prefix}{number:03d}", new, frames))
    return writers


def compare_headers(stored: Mapping[str, Any], now: Mapping[str, Any], directory: Path) -> None:
    """Raise ValueError naming every difference between what `directory` was written with and what is asked of it."""
    differences = [
        f"{key}: stored {_short(stored.get(key))}, now {_short(now.get(key))}"
        for key in dict.fromkeys((*stored, *now))
        if key != "preprocessor" and stored.get(key) != now.get(key)
    ]
    before, after = stored.get("preprocessor", {}), now.get("preprocessor", {})
    if before.get("shape") != after.get("shape"):
        differences.append(f"preprocessor: pictures became {before.get('shape')}, now {after.get('shape')}")
    elif not np.allclose(before.get("probe", []), after.get("probe", []), rtol=0.0, atol=PROBE_TOLERANCE):
        differences.append("preprocessor: resizing, cropping or normalisation differ")
    if differences:
        raise ValueError(
            f"the features in {directory} were made differently: {'; '.join(differences)}. "
            "Use the settings they were made with, or write them into another folder"
        )


def shards_in(directory: Path) -> list[str]:
    """Return the names of the shards in `directory`, sorted."""
    return sorted(path.name.removesuffix(".ids.json") for path in directory.glob("rank-*.ids.json"))


def read_shard(directory: Path, shard: str) -> tuple[list[str], np.ndarray]:
    """Return a shard's ids and a copy of its state [n] uint8; raises ValueError where the two do not fit."""
    ids = _read_json(directory / f"{shard}.ids.json")
    path = directory / f"{shard}.state"
    state = np.fromfile(path, dtype=np.uint8) if path.exists() else np.zeros(0, dtype=np.uint8)
    if len(ids) != len(state):
        raise ValueError(f"{path} knows {len(state)} rows, {shard}.ids.json {len(ids)}: copy both again")
    return ids, state


def read_bad(directory: Path, shard: str) -> dict[str, tuple[str, str]]:
    """Return image_id -> (path, reason) of a shard's rows marked as bad."""
    ids, state = read_shard(directory, shard)
    marked = {ids[row] for row in np.flatnonzero(state == BAD)}
    path = directory / f"{shard}.bad.jsonl"
    notes: dict[str, tuple[str, str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            note = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut off when its writer was killed; such a row is not marked
        if note["image_id"] in marked:
            notes[note["image_id"]] = (note["path"], note["reason"])
    return notes


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, bring to the disk, then rename: the file appears whole or not at all."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with beside.open("wb") as file:
        file.write(content)
        _sync(file)
    os.replace(beside, path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is broken ({error}): copy it again, or write the features anew") from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:24] + "…"
