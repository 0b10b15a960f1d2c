"""A run that has ended is left as it is, where transformers would take one step more, and says why."""

from typing import Any

from rlcap.console import say
from rlcap.failures import under_way
from rlcap.training.data_workers import WorkersTrainer


def out_of_patience(patience: int | None, evaluations: int, metric: str | None, best: int | None) -> str | None:
    """What `stopped_early` says after so many evaluations in a row that were no better than that of step `best`."""
    if patience is None or evaluations < patience:
        return None
    return (
        f"{evaluations} evaluation(s) without a better {metric}; the best is step {best}. "
        f"To train on, set early_stopping_patience above {evaluations}"
    )


class EndingTrainer(WorkersTrainer):
    """transformers.Trainer, started again on the last checkpoint of its run, takes no step."""

    def has_ended(self) -> bool:
        """Whether no step is left to take; asked at each start of an epoch, so after a resume too."""
        return self.state.global_step >= self.state.max_steps or self.stopped_early() is not None

    def train(self, *what: Any, **options: Any) -> Any:
        """Trains, and says on the first process where and why it stopped before the last step."""
        result = super().train(*what, **options)
        why = self.stopped_early()
        if why is not None and self.state.global_step < self.state.max_steps and self.is_world_process_zero():
            say(f"rlcap: stopped early at step {self.state.global_step}: {why}")
        return result

    def stopped_early(self) -> str | None:
        """Why no further step is worth it, in words; None where nothing says so."""
        return None

    def _run_epoch(self, *where: Any, **options: Any) -> None:
        # transformers looks for the end only after a step.
        if self.has_ended():
            self.control.should_training_stop = True
            if self.state.global_step >= self.state.max_steps and self.is_world_process_zero():
                say(f"rlcap: {self._nothing_left()}")
        else:
            with under_way():
                super()._run_epoch(*where, **options)

    def _nothing_left(self) -> str:
        length = "max_steps" if self.args.max_steps > 0 else "num_train_epochs"
        return f"this run has taken all of its {self.state.max_steps} steps; to train on, set a larger {length}"
