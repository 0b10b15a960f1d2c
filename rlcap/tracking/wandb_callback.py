"""Weights & Biases: our scalars under our names, and a growing table of sampled captions.

transformers' own callback renames every key to `train/…` and has no table. Whatever W&B does, the training goes on: a
failure is told once. What it shows of captions, references and file names goes in as plain text, never as HTML.
"""

import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlcap.data.images import BadImage, open_image
from rlcap.evaluation.metrics import METRICS, direction
from rlcap.evaluation.ranking import RANKED
from rlcap.tracking import run_directory

ID_FILE = "wandb.json"
STEP = "train/global_step"
TABLE = "completions"
THUMBNAIL = (160, 160)  # pixels, longest sides
INIT_TIMEOUT, INIT_SECONDS = "WANDB_INIT_TIMEOUT", 30.0  # W&B's own default is 90
# Seconds to wait for a key that is typed, and for what is still to be sent at the end (W&B's own: for ever); what is
# not sent by then is on the disk.
PATIENCE = {"WANDB_LOGIN_TIMEOUT": "60", "WANDB_FINISH_TIMEOUT": "60"}
INCREMENTS = 100  # of a growing table: W&B keeps all of them, and shows the newest so many


class WandbCallback(TrainerCallback):
    """Logs a training to W&B; `run_dir` gives the run its name, its id (so that a resume goes on in it) and its files.

    The project is WANDB_PROJECT or `rlcap`; WANDB_MODE=offline keeps everything in `run_dir/wandb` for `wandb sync`.
    Where there is no key, or no answer within INIT_SECONDS (or WANDB_INIT_TIMEOUT), the run is kept offline. The run
    ends with the training. A resume appends: steps logged after the checkpoint that it starts from are there twice.

    Raises ValueError where wandb is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ValueError(
                f"report_to: wandb needs wandb, which could not be imported ({error}): pip install 'rlcap[wandb]'"
            ) from error
        self._wandb = wandb
        self._run_dir = Path(run_dir)
        self._run: Any = None
        self._table: Any = None
        self._rewards: list[str] = []
        self._logs_an_increment = 1
        self._waiting: int | None = None  # the step of the newest rows that are not logged yet
        self._logs_waiting = 0
        self._told: set[str] = set()

    # What the trainer calls

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the run on the main process."""
        if state.is_world_process_zero and self._run is None:
            described = run_directory.read_run(self._run_dir)
            self.start(args.run_name, args.to_dict() if described is None else described)
            logs = state.max_steps / max(state.logging_steps, 1)
            self._logs_an_increment = max(1, math.ceil(logs / INCREMENTS))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Logs the numbers of one line, each under the name that it has."""
        if state.is_world_process_zero:
            self.log_scalars(state.global_step, logs or {})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Logs the samples up to a checkpoint: what a resume goes on from is there."""
        if self._run is not None:
            self._attempt(self._log_table)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends the run, so that a training after this one in the same process gets its own."""
        self.finish()

    # What these are made of, for other callers

    def start(self, name: str | None, config: Mapping[str, Any]) -> None:
        """Opens the run, or the one that this folder holds already."""
        run_id = self._run_id()
        settings: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT", "rlcap"),
            "name": name or self._run_dir.resolve().name,
            "id": run_id,
            "resume": "allow",
            "dir": str(self._run_dir),
            "config": dict(config),
            "job_type": config.get("command"),
            "tags": [str(name)[:64] for name in config.get("settings", {}).get("rewards") or []],
        }
        try:
            self._run = self._init(settings)
        except Exception as error:
            self._tell(error, f"the run is kept offline in {self._run_dir / 'wandb'} (wandb sync sends it later)")
            self._attempt(lambda: self._init_offline(settings))
        if self._run is not None:
            self._attempt(self._lay_out)

    def log_scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Logs the numbers among `values` at a step; other things are left out."""
        scalars = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if scalars and self._run is not None:
            self._attempt(lambda: self._run.log({**scalars, STEP: step}))

    def log_samples(
        self,
        step: int,
        records: Sequence[Mapping[str, Any]],
        images: Sequence[Image.Image | None] | None = None,
        *,
        split: str = "train",
    ) -> None:
        """Adds one row a record to the table `completions`.

        New rows are logged at once, or in a long run a few steps together, so that the page, which shows the newest 100
        increments of a table, shows every step's.

        A record has `image_id`, `caption`, `rewards` (name -> value or None), `reward`, `advantage`, `greedy` (or None)
        and `references`, and may have `extra`, what reward functions noted; `images` are its pictures, one a record,
        else the file named by its `image` is opened (None, or a file that cannot be read: no picture). The first call
        fixes the reward columns.
        """
        if records and self._run is not None:
            self._attempt(lambda: self._log_samples(step, records, images, split))

    def finish(self) -> None:
        """Ends the run; nothing is logged after it."""
        if self._run is not None:
            self._attempt(self._log_table)
            self._attempt(self._run.finish)
        self._run = self._table = None

    # Inside

    def _run_id(self) -> str:
        path = self._run_dir / ID_FILE
        if path.is_file():
            return str(json.loads(path.read_text(encoding="utf-8"))["id"])
        run_id = secrets.token_hex(4)
        run_directory.write_json(path, {"id": run_id})
        return run_id

    def _init(self, settings: Mapping[str, Any]) -> Any:
        """Opens the run as the environment says; where W&B is to be reached, that may not hold up the training long."""
        for variable, seconds in PATIENCE.items():
            os.environ.setdefault(variable, seconds)
        if os.environ.get("WANDB_MODE", "online") != "online" or INIT_TIMEOUT in os.environ:
            return self._wandb.init(**settings)
        return self._wandb.init(**settings, settings=self._wandb.Settings(init_timeout=INIT_SECONDS))

    def _init_offline(self, settings: Mapping[str, Any]) -> None:
        self._wandb.teardown()  # the attempt that failed still holds the id
        self._run = self._wandb.init(**settings, mode="offline")

    def _lay_out(self) -> None:
        """One axis for all; the page groups what has a prefix (`rewards/`, `eval/` …) by it, the rest under Charts.

        A run's summary, which its row in the table of runs shows, has the best of each validation metric.
        """
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        for name in (*METRICS, *RANKED):
            best = {1: "max", -1: "min", 0: "last"}[direction(name)]
            self._run.define_metric(f"eval/{name}", step_metric=STEP, step_sync=True, summary=best)

    def _log_samples(
        self,
        step: int,
        records: Sequence[Mapping[str, Any]],
        images: Sequence[Image.Image | None] | None,
        split: str,
    ) -> None:
        if self._table is None:
            self._rewards = sorted({name for record in records for name in record["rewards"]})
            columns: list[str | int] = [
                *("step", "split", "image_id", "image", "caption"),
                *(f"rewards/{name}" for name in self._rewards),
                *("reward", "advantage", "greedy", "references", "extra"),
            ]
            self._table = self._wandb.Table(columns=columns, log_mode="INCREMENTAL")
        pictures: Iterable[Image.Image | None] = (
            (_open(record.get("image")) for record in records) if images is None else images
        )
        shown: dict[str, Any] = {}  # the samples of a picture share one thumbnail
        for record, picture in zip(records, pictures, strict=True):
            image_id = str(record["image_id"])
            if picture is not None and image_id not in shown:
                shown[image_id] = self._wandb.Image(_thumbnail(picture), file_type="jpg")
            self._table.add_data(
                step,
                split,
                image_id,
                shown.get(image_id),
                str(record["caption"]),
                *(_number(record["rewards"].get(name)) for name in self._rewards),
                _number(record["reward"]),
                _number(record["advantage"]),
                None if record["greedy"] is None else str(record["greedy"]),
                "\n".join(map(str, record["references"])),
                json.dumps(record["extra"], default=str) if record.get("extra") else None,
            )
        self._waiting = step
        self._logs_waiting += 1
        if self._logs_waiting >= self._logs_an_increment:
            self._log_table()

    def _log_table(self) -> None:
        """Logs the rows that are new since the last increment."""
        if self._waiting is not None:
            self._run.log({TABLE: self._table, STEP: self._waiting})
        self._waiting, self._logs_waiting = None, 0

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Runs what talks to W&B; an error of any kind is told once, and ends nothing."""
        try:
            action()
        except Exception as error:
            self._tell(error, "the training goes on; metrics.jsonl has the numbers")

    def _tell(self, error: Exception, consequence: str) -> None:
        if consequence not in self._told:
            self._told.add(consequence)
            print(f"rlcap: W&B failed ({type(error).__name__}: {error}); {consequence}", flush=True)


def _number(value: Any) -> float | None:
    """A float for the table: None where a caption was not scored."""
    return None if value is None or math.isnan(value) else float(value)


def _open(source: Any) -> Image.Image | None:
    if source is None:
        return None
    try:
        return open_image(source)
    except BadImage:  # a video, or a picture that has gone since
        return None


def _thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail(THUMBNAIL)
    return small
