"""A run that can be killed: checkpoints are whole or not there, and a resume ends with the same bits.

What transformers writes into its checkpoint folder stays; the folder is written beside, with the state of every process
in it, and renamed into place as the last thing of its step.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from rlcap.tracking import run_directory
from rlcap.training import checkpoints
from rlcap.training.ended_run import EndingTrainer


def _of_no_best_checkpoint(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("The best checkpoint ")


class _EpochEnd(TrainerCallback):
    """Whether the epoch's last step is behind us; transformers asks for logs and checkpoints before and after that."""

    ended = False

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ended = False

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ended = True


class ResumableTrainer(EndingTrainer):
    """transformers.Trainer, which goes on from a checkpoint as if nothing had been.

    args: with `checkpoints_kept`, how many complete checkpoints stay, or None; its `save_total_limit` is None.
    """

    args: Any

    def __init__(self, *, args: Any, callbacks: list[TrainerCallback] | None = None, **options: Any) -> None:
        self._epoch_end = _EpochEnd()
        super().__init__(args=args, callbacks=[self._epoch_end, *(callbacks or [])], **options)
        self.run_dir = Path(str(args.output_dir))
        self._saving_to: Path | None = None

    # What subclasses say

    def checkpoint_state(self) -> dict[str, Any]:
        """What this process must know to go on from here, beside what transformers keeps: name -> tensor, or JSON.

        A subclass adds its own to what `super()` gives. Tensors inside lists or dicts raise TypeError.
        """
        return {}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Takes back what `checkpoint_state` gave, tensors on the CPU, before the first step of a resume."""

    def can_save(self, step: int) -> bool:
        """Whether a run can go on from a checkpoint of this step."""
        return True

    # The run

    def train(self, resume_from_checkpoint: str | bool | None = None, *what: Any, **options: Any) -> Any:
        """Trains, from a checkpoint or anew: then what an earlier start left in `metrics.jsonl` is dropped.

        resume_from_checkpoint: a folder; True for the run's last complete checkpoint, None and False for none.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(checkpoints.last_complete(self.run_dir) or "") or None
        if resume_from_checkpoint:
            self.args.eval_on_start = False  # the first start has done that
            self._restore(Path(str(resume_from_checkpoint)))
        elif self.is_world_process_zero():
            run_directory.truncate_metrics(self.run_dir / "metrics.jsonl", -1)
        return super().train(resume_from_checkpoint, *what, **options)

    def _maybe_log_save_evaluate(self, *what: Any, **options: Any) -> None:
        """Once a step: after an epoch's last step, and the run's, everything waits for the end of the epoch.

        So the checkpoint of a step comes last, and whatever a kill takes away a resume does again.
        """
        last = float(self.state.epoch or 0).is_integer() or self.control.should_training_stop
        if self._epoch_end.ended or not last:
            super()._maybe_log_save_evaluate(*what, **options)

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_to or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """transformers' checkpoint and ours beside it, renamed into place once everything is written."""
        name = f"{checkpoints.PREFIX}{self.state.global_step}"
        self._saving_to = self.run_dir / checkpoints.SAVING
        written = self._saving_to / name
        if self.args.should_save:
            shutil.rmtree(self._saving_to, ignore_errors=True)  # what a kill left there
        self.accelerator.wait_for_everyone()
        try:
            with checkpoints.room_for(name, self._saving_to):
                super()._save_checkpoint(model, trial)
                if self.state.best_global_step == self.state.global_step:
                    # transformers has noted the folder that is renamed below.
                    self.state.best_model_checkpoint = str(self.run_dir / name)
                    if self.args.should_save:
                        self.state.save_to_json(str(written / TRAINER_STATE_NAME))
                checkpoints.write_state(written, self.args.process_index, self.checkpoint_state())
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    checkpoints.publish(written, self.run_dir / name)
        finally:
            self._saving_to = None
        if self.args.should_save:
            shutil.rmtree(written.parent)
            checkpoints.rotate(self.run_dir, self.args.checkpoints_kept, self.state.global_step)
        self.accelerator.wait_for_everyone()

    def _init_training_state(self, *what: Any, **options: Any) -> tuple[int, int]:
        """transformers', without its warning that the best checkpoint was removed: the best captioner is in `best/`."""
        logger = logging.getLogger("transformers.trainer")
        logger.addFilter(_of_no_best_checkpoint)
        try:
            return super()._init_training_state(*what, **options)
        finally:
            logger.removeFilter(_of_no_best_checkpoint)

    def _restore(self, folder: Path) -> None:
        """Puts back what a checkpoint keeps beside the weights; drops later lines of `metrics.jsonl`.

        Before transformers begins: it reads the weights when the data is already being read where they are sharded.
        """
        self.restore_state(checkpoints.read_state(folder, self.args.process_index))
        if self.is_world_process_zero():
            step = int(folder.name.removeprefix(checkpoints.PREFIX))
            # A kill right after the last checkpoint leaves what no later one would clear away.
            shutil.rmtree(self.run_dir / checkpoints.SAVING, ignore_errors=True)
            checkpoints.rotate(self.run_dir, self.args.checkpoints_kept, step)
            run_directory.truncate_metrics(self.run_dir / "metrics.jsonl", step)
