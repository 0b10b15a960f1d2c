"""Tar shards as an endless stream of batches: shuffled through a buffer, dealt out to ranks once, resumable.

The rows of an epoch are read in a drawn order of shards, `buffer` rows at a time; a block of `buffer` rows is shuffled,
handed out, and the next one, read meanwhile by a thread, follows. All is a function of (seed, epoch, place), so a
position is four numbers, and going on from one reads a block again and nothing before its shard.

Compressed rows are read by the main process and travel to the data workers as a batch sampler's "indices"; workers
decode. So the order depends on the rank alone, whatever the number of workers, and exactly one layer shards.
"""

import queue
import random
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch.utils.data import Dataset

from rlcap.data.columns import Columns
from rlcap.data.rows import CaptionRow
from rlcap.data.splits import split_name
from rlcap.data.stores import patient_items
from rlcap.data.tar_shards import expand, read_samples, row_of
from rlcap.data.video import UNIFORM, FrameChoice

Row = dict[str, Any]


@dataclass(frozen=True)
class Position:
    """Where a rank is: in an epoch, at the block that begins with sample `row` of its `shard`-th shard, `taken` of it.

    batches: how many batches came before.
    """

    epoch: int = 0
    shard: int = 0
    row: int = 0
    taken: int = 0
    batches: int = 0


class CaptionStream:
    """The rows of tar shards, with what `load_captions` gives a row; pictures and videos are {"bytes", "path"}.

    source     shards as `rlcap.data.tar_shards.expand` reads them
    split      the rows to keep, where samples name their split; else the name that rows are given
    buffer     rows that are shuffled at a time; up to three buffers of compressed rows are in memory
    """

    def __init__(
        self,
        source: str,
        *,
        buffer: int,
        split: str = "train",
        columns: Columns | None = None,
        drop_empty: bool = False,
        video_frames: str = UNIFORM,
    ) -> None:
        """Raises ValueError where `source` names no shards or the buffer is below 1."""
        if buffer < 1:
            raise ValueError(
                f"shuffle_buffer is {buffer}; it must be 1 or more rows (1: shards are shuffled, rows not)"
            )
        self.source = source
        self.shards = expand(source)
        self.buffer = buffer
        self.split = split_name(split)
        self.columns = columns or Columns()
        self.drop_empty = drop_empty
        self.choice = FrameChoice.parse(video_frames)

    def rows(self, shard: str, skip: int = 0, contents: bool = True) -> Iterator[tuple[int, Row | None]]:
        """Yield the samples of a shard from `skip` on with their numbers; None for those of other splits.

        Raises ValueError naming a sample that has no references or an empty one (unless `drop_empty`).
        """
        for number, sample in patient_items(shard, lambda start: read_samples(shard, start, contents), skip):
            row = row_of(sample, self.columns, self.split)
            yield number, self._row(row) if row.split == self.split else None

    def has_rows(self) -> bool:
        """Whether any shard has a row of the split; reads texts alone, up to the first."""
        return any(row is not None for shard in self.shards for _, row in self.rows(shard, contents=False))

    def references(self) -> "StreamReferences":
        """Return image_id -> references of all rows, read when first asked for."""
        return StreamReferences(self)

    def _row(self, row: CaptionRow) -> Row:
        kept = [caption.strip() for caption in row.references if caption.strip()]
        if len(kept) < len(row.references) and not self.drop_empty:
            raise ValueError(
                f"{row.where} has an empty caption: correct it, or leave such out (drop_empty_captions: true)"
            )
        if not kept:
            raise ValueError(f"{row.where} has no references; add captions for it or leave it out")
        result: Row = {"image_id": row.image_id, row.kind: row.visual}
        if row.is_video:
            result["video_frames"] = str(self.choice if row.timestamps is None else FrameChoice.at(row.timestamps))
        return {**result, "references": kept, "split": row.split}


class StreamReferences(Mapping[str, list[str]]):
    """image_id -> references of a stream, for document frequencies and tokenizers; one pass that reads texts alone."""

    def __init__(self, stream: CaptionStream) -> None:
        self._stream = stream
        self._found: dict[str, list[str]] | None = None

    def _all(self) -> dict[str, list[str]]:
        if self._found is None:
            print(f"rlcap: reading the captions of {len(self._stream.shards)} shards", flush=True)
            found: dict[str, list[str]] = {}
            for shard in self._stream.shards:
                for _, row in self._stream.rows(shard, contents=False):
                    if row is not None:
                        found.setdefault(row["image_id"], []).extend(row["references"])
            self._found = found
        return self._found

    def __getitem__(self, image_id: str) -> list[str]:
        return self._all()[image_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class Given(Dataset):
    """The map-style data set whose indices are the rows themselves: what workers get is what the stream has read."""

    def __getitem__(self, row: Row) -> Row:
        return row


class StreamBatches:
    """The batches of one rank, as a batch sampler over `Given`.

    Every shard is read by one rank in an epoch; where there are fewer shards than ranks, all ranks read all and keep
    each `world`-th sample, another one in each epoch. Ranks may be in different epochs at a time: shards differ in
    size, and a rank whose share has no row of the split goes on to its next epoch. In every epoch each row comes
    exactly once.
    """

    def __init__(
        self, stream: CaptionStream, batch_size: int, seed: int, rank: int, world: int, start: Mapping[str, int] | None
    ) -> None:
        """`start`: what `state` returned; raises ValueError where that was of another number of ranks."""
        self.stream, self.batch_size, self.seed, self.rank, self.world = stream, batch_size, seed, rank, world
        if start is not None and start["world"] != world:
            raise ValueError(
                f"the stream was left off by {start['world']} processes and cannot be gone on with by {world}: the "
                "position of each is its own"
            )
        self.position = Position(**{k: v for k, v in start.items() if k != "world"}) if start else Position()
        self._ahead: deque[Position] = deque()

    def state(self) -> dict[str, int]:
        """Return where the batches that were `used` end, to start from."""
        return {**asdict(self.position), "world": self.world}

    def used(self) -> None:
        """Count one more batch as used; data workers are given batches ahead of that."""
        self.position = self._ahead.popleft()

    def __iter__(self) -> Iterator[list[Row]]:
        """Yield batches without end; first, for a resume that skips batches, an empty one for each that came before."""
        start = self.position
        self._ahead.clear()
        for _ in range(start.batches):
            yield []
        batch: list[Row] = []
        count = start.batches
        for at, row in self._rows(start):
            batch.append(row)
            if len(batch) == self.batch_size:
                count += 1
                self._ahead.append(replace(at, batches=count))
                yield batch
                batch = []

    def _rows(self, start: Position) -> Iterator[tuple[Position, Row]]:
        """The rows from `start` on, each with the position after it."""
        skip = start.taken
        for begin, block in _one_ahead(self._blocks(start)):
            random.Random(f"{self.seed} {begin}").shuffle(block)
            for taken, row in enumerate(block[skip:], start=skip + 1):
                yield replace(begin, taken=taken), row
            skip = 0

    def _blocks(self, start: Position) -> Iterator[tuple[Position, list[Row]]]:
        """Blocks of `buffer` rows in the order of the shards, epoch after epoch; an epoch's last may be shorter."""
        begin = replace(start, taken=0, batches=0)
        while True:
            whole, found = begin.shard == begin.row == 0, False
            block: list[Row] = []
            shards = self._shards(begin.epoch)
            for place in range(begin.shard, len(shards)):
                for number, row in self.stream.rows(shards[place], begin.row if place == begin.shard else 0):
                    if row is not None and self._is_mine(begin.epoch + place + number):
                        block.append(row)
                        found = True
                    if len(block) == self.stream.buffer:
                        yield begin, _distinct(block, shards[place])
                        block, begin = [], replace(begin, shard=place, row=number + 1)
            if block:
                yield begin, _distinct(block, shards[-1])
            # This rank's shards may all be of other splits, or rows fewer than ranks; other epochs deal them otherwise.
            if whole and not found and not self.stream.has_rows():
                raise ValueError(f'{self.stream.source} has no rows in the split "{self.stream.split}"')
            begin = Position(epoch=begin.epoch + 1)

    def _shards(self, epoch: int) -> list[str]:
        """This rank's shards in an epoch, in its order."""
        order = list(self.stream.shards)
        random.Random(f"{self.seed} {epoch}").shuffle(order)
        return order[self.rank :: self.world] if self._by_shard else order

    @property
    def _by_shard(self) -> bool:
        return len(self.stream.shards) >= self.world

    def _is_mine(self, number: int) -> bool:
        return self._by_shard or number % self.world == self.rank


def _distinct(block: list[Row], where: str) -> list[Row]:
    seen: set[str] = set()
    for row in block:
        if row["image_id"] in seen:
            raise ValueError(
                f'{where}: "{row["image_id"]}" comes twice within a buffer; a stream cannot join the captions of a '
                "picture: name another id_column, write a picture once, or leave shuffle_buffer out"
            )
        seen.add(row["image_id"])
    return block


def _one_ahead(blocks: Iterator[Any]) -> Iterator[Any]:
    """The items of an iterator, the next one made by a thread while one is in use; its errors are raised here."""
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(item: tuple[Any, BaseException | None]) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for block in blocks:
                put((block, None))
                if stop.is_set():
                    return
        except BaseException as error:  # whatever it is, the main thread must not wait for ever
            put((None, error))

    threading.Thread(target=work, daemon=True, name="rlcap-stream").start()
    try:
        while True:
            block, error = ready.get()
            if error is not None:
                raise error
            yield block
    finally:
        stop.set()
