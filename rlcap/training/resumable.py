"""A run that can be killed: captioners and checkpoints are whole or not there, and a resume ends with the same bits.

What transformers writes into its checkpoint folder stays; the folder is written beside, with the state of every process
in it, and renamed into place as the last thing of its step.
"""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

import captioners
from captioners.base import Captioner
from rlcap.tracking import model_card, run_directory
from rlcap.tracking.evaluations import evaluation_records
from rlcap.training import checkpoints, sharded
from rlcap.training.arguments import CaptionerTrainingArguments, default_settings, settings_of
from rlcap.training.ended_run import EndingTrainer
from rlcap.training.hub import HubTrainer


class _EpochEnd(TrainerCallback):
    """Whether the epoch's last step is behind us; transformers asks for logs and checkpoints before and after that."""

    ended = False

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ended = False

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.ended = True


class ResumableTrainer(HubTrainer, EndingTrainer):
    """Saves captioners and checkpoints, and goes on from one as if nothing had been.

    captioner: trained in place. The other options are those of transformers.Trainer.
    """

    args: CaptionerTrainingArguments

    def __init__(
        self,
        captioner: Captioner,
        args: CaptionerTrainingArguments,
        *,
        callbacks: list[TrainerCallback] | None = None,
        **options: Any,
    ) -> None:
        self._epoch_end = _EpochEnd()
        super().__init__(model=captioner, args=args, callbacks=[self._epoch_end, *(callbacks or [])], **options)
        self.captioner = captioner
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

    def _prepare_for_training(self, *what: Any, **options: Any) -> Any:
        prepared = super()._prepare_for_training(*what, **options)
        if sharded.will_shard(self.accelerator):
            sharded.run_in_step(self.captioner)
        return prepared

    # Captioners

    def save_captioner(self, directory: Path) -> None:
        """Writes the captioner and its card into a folder that appears whole or not at all; Hugging Face layout."""
        with self._whole_weights():
            if self.args.should_save:
                with checkpoints.whole_directory(directory) as unfinished:
                    self.captioner.save_pretrained(unfinished)
                    model_card.write_card(unfinished, self._card())
        self.accelerator.wait_for_everyone()

    def _whole_weights(self) -> AbstractContextManager[None]:
        return sharded.whole_weights(self.captioner, self.model_wrapped, self.accelerator)

    def _card(self) -> str:
        """The card of the captioner as it is now, with the last evaluation of the run."""
        described = run_directory.read_run(self.run_dir) or {"settings": settings_of(self.args)}
        evaluations = evaluation_records(run_directory.read_metrics(self.run_dir / "metrics.jsonl"))
        evaluated_at = max(evaluations, default=None)
        return model_card.model_card(
            described,
            name=str(self.args.run_name or self.run_dir.resolve().name),
            step=self.state.global_step,
            results={} if evaluated_at is None else evaluations[evaluated_at],
            evaluated_at=evaluated_at,
            defaults=default_settings(type(self.args)),
        )

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the captioner; called on all ranks. transformers leaves it out where weights are sharded."""
        with self._whole_weights():
            if self.args.should_save:
                # LoRA apart: merged and split again, a run would not go on from the same bits.
                self.captioner.save_pretrained(str(output_dir or self.args.output_dir), merge_lora=False)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

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
                checkpoints.write_state(written, self.args.process_index, self.checkpoint_state())
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    checkpoints.publish(written, self.run_dir / name)
        finally:
            self._saving_to = None
        if self.args.should_save:
            shutil.rmtree(written.parent)
            checkpoints.rotate(self.run_dir, self.args.checkpoints_kept, self.state.global_step)
            if self.args.push_to_hub:
                self._push_from_checkpoint(str(self.run_dir / name))
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Puts back the weights. DeepSpeed, which has them in its own files, does that itself."""
        sharded.load_weights(self.captioner, captioners.load(Path(resume_from_checkpoint)).state_dict())

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
