"""The data workers of transformers.Trainer, which are to stay with their rank."""

from functools import partial
from typing import Any

from torch.utils.data import DataLoader
from transformers import Trainer

from rlcap.launching.workers import stay_with_rank


class WorkersTrainer(Trainer):
    """transformers.Trainer, whose data workers leave it to their rank to be told to stop."""

    def _get_dataloader(self, *what: Any, **options: Any) -> DataLoader:
        prepared: Any = super()._get_dataloader(*what, **options)
        loader = prepared.base_dataloader  # what accelerate has made of ours reads from this one
        loader.worker_init_fn = partial(stay_with_rank, then=loader.worker_init_fn)
        return prepared
