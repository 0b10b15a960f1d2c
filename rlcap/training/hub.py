"""`push_to_hub`: what goes to the Hub is the captioner and its card, where transformers would send the run's folder."""

from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress, hf_api

from rlcap.tracking import model_card
from rlcap.training import checkpoints

# What a checkpoint holds beside the captioner.
NOT_THE_CAPTIONER = [
    *("optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", "training_args.bin"),
    *(f"{checkpoints.STATE}*", checkpoints.MARKER),
    *("pytorch_model_fsdp*", "global_step*", "latest", "zero_to_fp32.py"),  # shards of FSDP and DeepSpeed
]


class HubTrainer(Trainer):
    """transformers.Trainer with its own keys for the Hub (`push_to_hub`, `hub_model_id`, `hub_strategy` …)."""

    run_dir: Path

    def save_captioner(self, directory: Path) -> None:
        """Writes the captioner and its card into a folder."""
        raise TypeError(f"{type(self).__name__} has no save_captioner")

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **metadata: Any,
    ) -> Any:
        """Uploads `best/`, where there is none `final/`, else the captioner as it is; arguments as in transformers.

        `metadata` goes into the card: license, language, tags. Returns what `HfApi.upload_folder` does, None on
        processes that upload nothing.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token or self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        saved = [folder for folder in (self.run_dir / "best", self.run_dir / "final") if folder.is_dir()]
        folder = saved[0] if saved else self.run_dir / "final"
        if not saved:
            self.save_captioner(folder)
        if not self.is_world_process_zero():
            return None
        if metadata:
            card = (folder / model_card.FILE).read_text(encoding="utf-8")
            model_card.write_card(folder, model_card.with_metadata(card, metadata))
            checkpoints.mark_complete(folder)
        self._finish_current_push()
        hub: Any = hf_api()
        return hub.upload_folder(
            repo_id=str(self.hub_model_id),
            folder_path=folder,
            commit_message=commit_message,
            token=token,
            run_as_future=not blocking,
            ignore_patterns=[checkpoints.MARKER],
            revision=revision or self.args.hub_revision,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Starts the uploads that `hub_strategy` wants of a checkpoint, once it is whole: transformers asks before."""
        args, folder = self.args, Path(checkpoint_folder)
        in_progress: Any = self.push_in_progress
        busy = in_progress is not None and not in_progress.is_done()
        whole = (folder / checkpoints.MARKER).is_file()
        if args.hub_strategy == HubStrategy.END or not whole or (busy and not args.hub_always_push):
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        jobs = [self._upload(folder, commit_message=message, ignore_patterns=NOT_THE_CAPTIONER)]
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            name = "last-checkpoint" if args.hub_strategy == HubStrategy.CHECKPOINT else folder.name
            jobs.append(self._upload(folder, commit_message=f"{message}, checkpoint", path_in_repo=name))
        if busy:
            in_progress.jobs.extend(jobs)
        else:
            in_progress = PushInProgress(jobs)  # type: ignore[arg-type]
        self.push_in_progress = in_progress

    def _upload(self, folder: Path, **options: Any) -> Any:
        return hf_api().upload_folder(
            repo_id=str(self.hub_model_id),
            folder_path=folder,
            token=self.args.hub_token,
            run_as_future=True,
            revision=self.args.hub_revision,
            **options,
        )
