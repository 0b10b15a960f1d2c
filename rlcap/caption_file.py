"""`rlcap caption --output`: captions of many pictures in one JSON file, by any number of processes, gone on with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from captioners.base import Captioner
from captioners.types import GenerationSettings
from captioners.weights import fingerprint
from rlcap.captioning import best_captions, captioned
from rlcap.data.blind import VISUAL
from rlcap.data.features import FeatureStore
from rlcap.data.fingerprint import rows_fingerprint
from rlcap.data.shared_rows import Row, share_rows
from rlcap.tracking.run_directory import write_json, write_text

FORMAT = "rlcap captions 1"
SUMMARY = ".summary.json"


def write_captions(
    captioner: Captioner,
    dataset: datasets.Dataset,
    generation: GenerationSettings,
    output: Path,
    pictures: Mapping[str, Any],
    *,
    features: FeatureStore | None,
    rank: int = 0,
    world: int = 1,
    batch_size: int = 32,
    workers: int = 0,
    max_bad_images: float = 0.01,
    overwrite: bool = False,
) -> list[Row] | None:
    """Captions rank `rank`'s share; the rank that finds all done writes image id -> caption and returns all rows.

    `output`.summary.json beside it has what determined the captions (`header`), their number and the pictures that
    `failed`. Where it is that of this very work, the work is not done again.

    Args:
        pictures: where the rows come from, as JSON; what else determines a caption is asked of the captioner.
        overwrite: replace an `output` that is of other work, or no captions of ours.

    Returns None where other ranks are still at it. Raises ValueError as `share_rows` does.
    """
    image_ids: list[str] = list(dataset["image_id"])
    head: dict[str, Any] = {
        "format": FORMAT,
        "captioner": {"weights": fingerprint([captioner]), "prompt": captioner.prompt},
        "generation": asdict(generation),
        "pictures": {**pictures, "rows": len(image_ids), "sha256": rows_fingerprint(dataset, of=VISUAL)},
        "features": features.header if features else None,
        "batch_size": batch_size,
    }
    head = json.loads(json.dumps(head, default=str))
    summary = output.with_name(output.name + SUMMARY)

    def write(path: Path, rows: list[Row]) -> None:
        captions = {row["image_id"]: row["captions"][0] for row in rows if "failed" not in row}
        text = json.dumps(captions, indent=1, ensure_ascii=False) + "\n"
        failed = {row["image_id"]: row["failed"] for row in rows if "failed" in row}
        made = {"header": head, "captions": len(captions), "failed": failed, "sha256": _digest(text)}
        write_json(summary, made)
        write_text(path, text)

    def finished() -> tuple[dict[str, Any], list[Row]] | None:
        if not (output.is_file() and summary.is_file()):
            return None
        made, text = json.loads(summary.read_text(encoding="utf-8")), output.read_text(encoding="utf-8")
        if made.get("sha256") != _digest(text):
            return None
        named: dict[str, Row] = {name: {"captions": [caption]} for name, caption in json.loads(text).items()}
        named |= {name: {"failed": why} for name, why in made["failed"].items()}
        return made["header"], [{"image_id": name, **own} for name, own in named.items()]

    return share_rows(
        image_ids,
        partial(
            captioned,
            captioner,
            dataset,
            decode=best_captions(captioner, generation),
            features=features,
            workers=workers,
        ),
        output,
        head,
        write,
        finished=finished,
        rank=rank,
        world=world,
        batch_size=batch_size,
        max_failed=max_bad_images,
        doing="captions",
        overwrite=overwrite,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
