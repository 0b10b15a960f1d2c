"""Captioners are written whole or not at all, wherever their weights are, in the Hugging Face layout."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import nn

import captioners
from captioners.base import Captioner
from rlcap.tracking import model_card, run_directory
from rlcap.tracking.evaluations import evaluation_records
from rlcap.training import checkpoints, sharded
from rlcap.training.arguments import CaptionerTrainingArguments, default_settings, settings_of
from rlcap.training.hub import HubTrainer
from rlcap.training.resumable import ResumableTrainer


class SavingTrainer(HubTrainer, ResumableTrainer):
    """Saves captioners, by themselves and in checkpoints, and reads them again.

    captioner: trained in place. The other options are those of transformers.Trainer.
    """

    args: CaptionerTrainingArguments

    def __init__(self, captioner: Captioner, args: CaptionerTrainingArguments, **options: Any) -> None:
        super().__init__(model=captioner, args=args, **options)
        self.captioner = captioner

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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the captioner; called on all ranks. transformers leaves it out where weights are sharded."""
        with self._whole_weights():
            if self.args.should_save:
                # LoRA apart: merged and split again, a run would not go on from the same bits.
                self.captioner.save_pretrained(str(output_dir or self.args.output_dir), merge_lora=False)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save and self.args.push_to_hub:
            self._push_from_checkpoint(str(self.run_dir / f"{checkpoints.PREFIX}{self.state.global_step}"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Puts back the weights. DeepSpeed, which has them in its own files, does that itself."""
        sharded.load_weights(self.captioner, captioners.load(Path(resume_from_checkpoint)).state_dict())

    def _prepare_for_training(self, *what: Any, **options: Any) -> Any:
        prepared = super()._prepare_for_training(*what, **options)
        if sharded.will_shard(self.accelerator):
            sharded.run_in_step(self.captioner)
        return prepared
