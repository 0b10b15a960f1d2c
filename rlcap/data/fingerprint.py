"""A hash of the rows of a data set: what work on them is known by, beside its settings."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import datasets

from rewards.fingerprint import fingerprint_of
from rlcap.data.blind import VISUAL

TEXTS = ("references", "captions")


def rows_fingerprint(dataset: datasets.Dataset, *, of: Sequence[str] = (*VISUAL, *TEXTS)) -> str:
    """A hash of the ids and order of rows, and of these columns where they are there: "sha256:…".

    Of pictures that are files it is the paths, not the content; of others the bytes.
    """
    columns = [name for name in ("image_id", *of) if name in dataset.column_names]
    rows = dataset.select_columns(columns)
    return fingerprint_of(json.dumps([row[name] for name in columns], default=_named) for row in rows)


def _named(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
