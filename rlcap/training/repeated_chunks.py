"""Pictures that come back: the order of rows for several updates on the same samples."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from rlcap.training.arguments import require
from rlcap.training.randomness import generator_of


class RepeatedChunks(Sampler[int]):
    """Row indices in chunks, each chunk `times` in a row, shuffled anew in every epoch by (seed, epoch) alone.

    chunk: rows of one optimizer step over all ranks. Rows that fill no chunk are left out of the epoch; others in the
    next. Raises ValueError where there are fewer rows than a chunk has.
    """

    def __init__(self, rows: int, chunk: int, times: int, seed: int) -> None:
        require(rows >= chunk, "num_iterations", times, f"1 with {rows} training rows: a step takes {chunk}")
        self.rows, self.chunk, self.times, self.seed = rows, chunk, times, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.rows, generator=generator_of("cpu", self.seed, self.epoch, "rows")).tolist()
        for start in range(0, self.rows - self.chunk + 1, self.chunk):
            for _ in range(self.times):
                yield from order[start : start + self.chunk]

    def __len__(self) -> int:
        return self.rows // self.chunk * self.chunk * self.times
