"""TensorBoard: our scalars under our names (transformers' own callback renames every key to `train/…`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FOLDER = "tensorboard"


class TensorBoardCallback(TrainerCallback):
    """Writes event files into `run_dir/tensorboard`; a resume hides what was logged after its checkpoint.

    Raises ValueError where tensorboard is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                f"report_to: tensorboard needs tensorboard, which could not be imported ({error}): "
                "pip install 'rlcap[tensorboard]'"
            ) from error
        self._writer_class = SummaryWriter
        self._folder = Path(run_dir) / FOLDER
        self._writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens an event file on the main process."""
        if state.is_world_process_zero and self._writer is None:
            self._writer = self._writer_class(log_dir=str(self._folder), purge_step=state.global_step + 1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes the numbers of one line, each under the name that it has."""
        if self._writer is None:
            return
        for name, value in (logs or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, state.global_step)
        self._writer.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
