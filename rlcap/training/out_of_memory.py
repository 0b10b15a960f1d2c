"""A GPU that is full: which settings to lower."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def advised(args: Any, keys: Sequence[str]) -> Iterator[None]:
    """Adds to torch's error which keys of a recipe need the memory, and what they are now."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        now = ", ".join(f"{key} ({getattr(args, key)})" for key in keys if getattr(args, key) is not None)
        error.add_note(f"rlcap: the GPU's memory is full. Lower one of {now}")
        raise
