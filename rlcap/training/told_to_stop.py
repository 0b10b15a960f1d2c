"""A training that is told to stop: a checkpoint at the end of the step, on all ranks the same, and a way out.

The same command then goes on from there, and ends with the weights of a training that nobody has stopped.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlcap.console import say
from rlcap.launching.stopping import Notice, Stopped
from rlcap.training import checkpoints
from rlcap.training.resumable import ResumableTrainer


class StopWhenTold(TrainerCallback):
    """Asks for a checkpoint at the end of the step in which any rank was told to stop, and raises Stopped after it.

    A step that ends an epoch is left after the epoch's evaluation, which a resume would not make up for.

    can_save: whether a run can go on from a checkpoint of this step.
    """

    def __init__(self, notice: Notice, can_save: Callable[[int], bool]) -> None:
        self._notice, self._can_save = notice, can_save
        self._number = 0  # of the signal, agreed by all ranks
        self._may_leave = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks all ranks."""
        self._number = self._number or self._agreed(args)
        ends_epoch = float(state.epoch or 0).is_integer()
        self._may_leave = bool(self._number) and self._can_save(state.global_step) and not ends_epoch
        control.should_save = control.should_save or self._may_leave

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks for the checkpoint of a step that ends an epoch, or the run."""
        self._may_leave = bool(self._number) and self._can_save(state.global_step)
        control.should_save = control.should_save or self._may_leave

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leaves the training: the checkpoint is written."""
        if self._may_leave:
            raise Stopped(self._number)

    def _agreed(self, args: TrainingArguments) -> int:
        """The highest number that any rank was told, or 0: an integer a step, where gradients have just been summed."""
        if args.world_size == 1:
            return self._notice.number
        told = torch.tensor(self._notice.number, device=args.device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return int(told)


def train(
    trainer: ResumableTrainer, resume_from: Path | None, *, can_save: Callable[[int], bool] = lambda step: True
) -> None:
    """Trains to the end, from a checkpoint or anew. Raises Stopped where it was told to stop, once all is saved.

    KeyboardInterrupt says what the same command will go on from.

    can_save: whether a run can go on from a checkpoint of this step.
    """
    with Notice() as notice:
        callback = StopWhenTold(notice, can_save)
        trainer.add_callback(callback)  # the last one: trackers have done their part when it leaves
        try:
            trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
        except Stopped as stopped:
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # trackers close
            if trainer.is_world_process_zero():
                say(
                    f"rlcap: told to stop by {stopped.signal.name}; the checkpoint of step {trainer.state.global_step} "
                    f"is written, and the same command goes on from it (exit code {stopped.code})"
                )
            raise
        except KeyboardInterrupt:
            last = checkpoints.last_known(trainer.run_dir)
            raise KeyboardInterrupt(
                "no checkpoint was written yet, and the same command starts anew"
                if last is None
                else f"the same command goes on from {last}"
            ) from None
        finally:
            trainer.remove_callback(callback)
