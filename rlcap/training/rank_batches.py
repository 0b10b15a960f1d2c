"""Each rank's part of every batch: together they are an epoch's rows, each once."""

import math
from collections.abc import Iterator

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import RandomSampler, Sampler


class RankBatches(Sampler[list[int]]):
    """Cuts the rows of a sampler, the same on all ranks, into batches of `size` rows a rank, and takes one rank's.

    What is left for the last batch of an epoch is shared out evenly; a rank whose part is empty gets an empty batch.
    (accelerate would fill up with rows of the epoch's start, which then count twice.)
    """

    def __init__(
        self, sampler: Sampler[int], size: int, rank: int, world: int, *, seed: int, drop_last: bool = False
    ) -> None:
        if type(sampler) is RandomSampler:
            # accelerate's for one process: the same order on every rank, another in every epoch.
            sampler = SeedableRandomSampler(sampler.data_source, data_seed=seed)
        self.batch_sampler = sampler  # where transformers looks for `set_epoch`
        self.size, self.rank, self.world, self.drop_last = size, rank, world, drop_last

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        if hasattr(self.batch_sampler, "set_epoch"):
            self.batch_sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        rows, whole = list(self.batch_sampler), self.size * self.world
        for number in range(len(self)):
            batch = rows[number * whole : (number + 1) * whole]
            start, end = (len(batch) * part // self.world for part in (self.rank, self.rank + 1))
            yield batch[start:end]

    def __len__(self) -> int:
        batches = len(self.batch_sampler) / (self.size * self.world)  # type: ignore[arg-type]
        return math.floor(batches) if self.drop_last else math.ceil(batches)
