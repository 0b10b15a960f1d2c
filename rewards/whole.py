"""Models of transformers, loaded so that nothing stays random without a word."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR, Filter, LogRecord
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import logging

NAMED = 5  # keys named in a message


def load_whole(
    model_class: Any,
    path: str | Path,
    what: str,
    *,
    dtype: torch.dtype | str = torch.float32,
    unread: Callable[[str], bool] = lambda name: False,
    **options: Any,
) -> Any:
    """The model of a directory or Hub id, from safetensors or plain tensors (weights_only); no code of it is run.

    dtype: "auto" is that of the stored weights. unread: names of parameters that may be missing, because nothing reads
    them (a pooler); they are set to 0, so that a hash of the weights is the same in every process.
    Raises ValueError, with `what` before it, where the model cannot be loaded, and by key names where weights are
    missing or of other shapes.
    """
    with _only_errors():
        try:
            loaded: Any = model_class.from_pretrained(path, dtype=dtype, output_loading_info=True, **options)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} could not be loaded as {what}: {error}") from error
    model, info = loaded
    random = sorted(name for name in info["missing_keys"] if not unread(name))
    if random:
        raise ValueError(
            f"{path} lacks {len(random)} of the model's weights, which would stay random: {', '.join(random[:NAMED])}"
        )
    weights = model.state_dict()
    for name in info["missing_keys"]:
        weights[name].zero_()
    return model


def load_head(head: nn.Module, file: Path) -> None:
    """Puts the weights of a safetensors file into a head.

    Raises ValueError, naming them, where they are not those of the head.
    """
    stored, expected = load_file(file), head.state_dict()
    wrong = [f"{name} is missing" for name in expected.keys() - stored.keys()]
    wrong += [f"{name} is not of this head" for name in stored.keys() - expected.keys()]
    wrong += [
        f"{name} is {list(stored[name].shape)} and must be {list(expected[name].shape)}"
        for name in expected.keys() & stored.keys()
        if stored[name].shape != expected[name].shape
    ]
    if wrong:
        raise ValueError(f"{file} does not fit the model that it stands beside: {'; '.join(sorted(wrong)[:NAMED])}")
    head.load_state_dict(stored)


def save_head(head: nn.Module, file: Path) -> None:
    """Writes what `load_head` reads."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, file)


class _OnlyErrors(Filter):
    def filter(self, record: LogRecord) -> bool:
        return record.levelno >= ERROR


@contextmanager
def _only_errors() -> Iterator[None]:
    # transformers tells of every weight that is left over, such as a classifier's; what is missing is told above.
    logger, only_errors = logging.get_logger("transformers.modeling_utils"), _OnlyErrors()
    logger.addFilter(only_errors)
    try:
        yield
    finally:
        logger.removeFilter(only_errors)
