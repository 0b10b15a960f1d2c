"""A reward, loss or gradient that is NaN or infinite: the batch is written down, then the run stops, or skips it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.score import NotFiniteReward
from rlcap.console import say
from rlcap.failures import Failure

FOLDER = "not_finite"
NOTED = ("image_id", "references", "captions", "caption", "rating", "kind")  # of a row


class NotFinite(Failure, ValueError):
    """The loss of a micro-batch, the gradient of a step, or a reward is NaN or infinite."""


CAUGHT = (NotFinite, NotFiniteReward)


class SkippedBatches:
    """Writes batches down into `<run>/not_finite/rank_<r>.jsonl`, and says when there have been too many.

    most: micro-batches that this process may skip in the whole run; the one after these stops it. count: so far.
    """

    def __init__(self, run_dir: Path, rank: int, most: int) -> None:
        self.file = run_dir / FOLDER / f"rank_{rank}.jsonl"
        self.most = most
        self.count = 0

    def skip(self, reason: ValueError, step: int, rows: Sequence[Mapping[str, Any]], samples: Sequence[str]) -> None:
        """Notes a batch. Raises NotFinite, with where the batch is, where no more may be skipped.

        rows: of the micro-batch; of the last one where it is the gradient. samples: the sampled captions, all of a
        row behind each other; none where nothing is sampled.
        """
        each = len(samples) // len(rows) if rows else 0
        noted = [{name: row[name] for name in NOTED if name in row} for row in rows]
        for b, row in enumerate(noted if each else []):
            row["samples"] = list(samples[b * each : (b + 1) * each])
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, "reason": str(reason), "rows": noted}) + "\n")
        self.count += 1
        if self.count > self.most:
            allowed = f"; {self.most} were skipped before (max_not_finite)" if self.most else ""
            raise NotFinite(f"{reason}, at step {step}; the batch is the last line of {self.file}{allowed}") from None
        say(f"rlcap: step {step}: {reason}; skipped ({self.count} of at most {self.most}), see {self.file}")
