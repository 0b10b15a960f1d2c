"""A run that has ended is left as it is, where transformers would take one step more."""

from typing import Any

from rlcap.failures import under_way
from rlcap.training.data_workers import WorkersTrainer


class EndingTrainer(WorkersTrainer):
    """transformers.Trainer, started again on the last checkpoint of its run, takes no step."""

    def has_ended(self) -> bool:
        """Whether no step is left to take; asked at each start of an epoch, so after a resume too."""
        return self.state.global_step >= self.state.max_steps

    def _run_epoch(self, *where: Any, **options: Any) -> None:
        # transformers looks for the end only after a step.
        if self.has_ended():
            self.control.should_training_stop = True
        else:
            with under_way():
                super()._run_epoch(*where, **options)
