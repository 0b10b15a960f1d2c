"""The keys of a chain's line that say which picture it is of."""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset, List, Value

from rlcap.data.source_kind import kind_of
from rlcap.degrading.chain import Start


class Visuals:
    """image_id -> the keys of a line: ids, split, references, and the picture's path where it has one of its own.

    Relative paths are written as seen from the folder of the chains, absolute ones as they are. Pictures in tar shards
    and in data sets have none: `load_chains(…, pictures=load_captions(…))` finds them by their ids.
    """

    def __init__(self, dataset: Dataset, folder: Path, source: str | None) -> None:
        """source: where the captions were read from; None leaves pictures out."""
        self.dataset, self.folder = dataset, folder
        self.place = {image_id: number for number, image_id in enumerate(dataset["image_id"])}
        kind = next(name for name in ("image", "frames", "video") if name in dataset.column_names)
        feature: Any = dataset.features[kind]
        inner = feature.feature if isinstance(feature, List) else feature
        has_paths = isinstance(inner, Value) and inner.dtype == "string" and source is not None
        self.kind = kind if has_paths and kind_of(str(source), "auto") != "tar" else None
        self.read = dataset.select_columns(["split", "references", *([self.kind] if self.kind else [])])

    def of(self, start: Start) -> dict[str, Any]:
        """The keys of a chain that starts from a caption."""
        row = self.read[self.place[start.image_id]]
        line: dict[str, Any] = {"image_id": start.image_id}
        if self.kind:
            value = row[self.kind]
            line[self.kind] = list(map(self._path, value)) if isinstance(value, list) else self._path(value)
        return {**line, "split": row["split"], "source": start.source, "references": row["references"]}

    def _path(self, path: str) -> str:
        return path if os.path.isabs(path) or "://" in path else os.path.relpath(path, self.folder)
