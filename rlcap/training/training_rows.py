"""How far a process is through its training rows: its place in a stream, and the pictures that it could not decode."""

import math
from collections.abc import Callable
from typing import Any

import datasets
from torch.utils.data import DataLoader

from rlcap.data.images import BadImageCounter
from rlcap.data.stream import CaptionStream, Given, StreamBatches
from rlcap.launching.workers import stay_with_rank
from rlcap.training.arguments import CaptionerTrainingArguments
from rlcap.training.rank_batches import RankBatches


class TrainingRows:
    """Counts batches as they are trained on; what it counted survives a resume."""

    def __init__(self, dataset: datasets.Dataset | CaptionStream, args: CaptionerTrainingArguments) -> None:
        self._args = args
        # Of a stream, what was seen counts, and from the start a buffer's worth.
        total = dataset.buffer if isinstance(dataset, CaptionStream) else len(dataset)
        # Each rank sees, and may lose, its share.
        self.bad_images = BadImageCounter(math.ceil(total / args.world_size), args.max_bad_images)
        self._batches: StreamBatches | None = None
        self._start: dict[str, int] | None = None
        self._seen = 0

    def stream_loader(self, stream: CaptionStream, collate: Callable[[list[Any]], Any]) -> DataLoader:
        """A loader of a stream, from where the run left off. Accelerate leaves it alone: the stream itself shards."""
        args = self._args
        self._batches = StreamBatches(
            stream,
            args.per_device_train_batch_size,
            args.data_seed if args.data_seed is not None else args.seed,
            args.process_index,
            args.world_size,
            self._start,
        )
        return self._loader(Given(), self._batches, collate)

    def loader(self, dataset: datasets.Dataset, sampler: Any, collate: Callable[[list[Any]], Any]) -> DataLoader:
        """A loader of this rank's part of each batch of a data set, which accelerate leaves alone too."""
        args = self._args
        batches = RankBatches(
            sampler,
            args.per_device_train_batch_size,
            args.process_index,
            args.world_size,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            drop_last=args.dataloader_drop_last,
        )
        return self._loader(dataset, batches, collate)

    def _loader(self, dataset: Any, batches: Any, collate: Callable[[list[Any]], Any]) -> DataLoader:
        args = self._args
        workers = args.dataloader_num_workers
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=stay_with_rank,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            pin_memory=args.dataloader_pin_memory,
        )

    def count(self, batch: dict[str, Any]) -> None:
        """Counts a batch of VisualCollator as used; raises ValueError past `max_bad_images`."""
        if self._batches is not None:
            self._batches.used()
            self._see(self._seen + len(batch["rows"]) + len(batch["bad"]))
        self.bad_images.extend(batch["bad"])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of one rank."""
        state: dict[str, Any] = {"bad_images": list(self.bad_images.bad.items())}
        if self._batches is not None:
            state["stream"] = {"position": self._batches.state(), "rows_seen": self._seen}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave; a stream's loader that is made after this goes on from there."""
        if "stream" in state:
            self._start = state["stream"]["position"]
            self._see(state["stream"]["rows_seen"])
        self.bad_images.extend(state["bad_images"], warn=False)

    def _see(self, rows: int) -> None:
        self._seen = rows
        self.bad_images.total = max(self.bad_images.total, rows)
