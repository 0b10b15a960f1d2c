"""Hugging Face weights, loaded so that nothing stays random without a word."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import Filter, LogRecord
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

Model = TypeVar("Model", bound=PreTrainedModel)
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
OLDER_WEIGHTS = "pytorch_model*.bin"


def local_directory(path_or_hub_id: str | Path) -> Path:
    """The directory of a model, which is downloaded where it is none here; ValueError where the Hub has not got it."""
    if Path(path_or_hub_id).is_dir():
        return Path(path_or_hub_id)
    hub_id = str(path_or_hub_id)
    try:
        snapshot = Path(snapshot_download(hub_id, allow_patterns=FILES))
        if not any(snapshot.rglob("*.safetensors")):
            snapshot = Path(snapshot_download(hub_id, allow_patterns=[*FILES, OLDER_WEIGHTS]))
        return snapshot
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{hub_id} is neither a directory here nor a model that the Hub would give: {error}"
        ) from error


def load_weights(model_class: type[Model], path: str | Path, dtype: torch.dtype) -> tuple[Model, set[str]]:
    """The model of a directory or Hub id, and the names of the parameters that its files lack, which are random.

    Reads safetensors, or else `pytorch_model.bin` as plain tensors (weights_only): no code of a checkpoint is run.
    Raises ValueError where there are no weights, or some of another shape.
    """
    with _without_report():
        try:
            loaded: Any = model_class.from_pretrained(path, dtype=dtype, output_loading_info=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} could not be loaded: {error}") from error
    model, info = loaded
    return model, set(info["missing_keys"])


def refuse_random(path: str | Path, missing: set[str], unused_parameters: Callable[[], set[str]]) -> None:
    """Raises ValueError where one of the `missing` parameters has a part in what the model says."""
    random = sorted(missing - unused_parameters()) if missing else []
    if random:
        raise ValueError(
            f"{path} lacks {len(random)} of the model's weights, which would stay random: {', '.join(random[:5])}"
        )


def fingerprint(modules: Iterable[nn.Module]) -> str:
    """A hash of all weights and buffers, with their types and shapes: "sha256:…"."""
    digest = hashlib.sha256()
    for module in modules:
        for tensor in module.state_dict().values():
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


def unused(module: nn.Module, output: Callable[[], Tensor]) -> set[str]:
    """Names of the parameters of `module` that `output()` does not depend on (poolers, mask tokens)."""
    trained = {parameter: parameter.requires_grad for parameter in module.parameters()}
    try:
        for parameter in trained:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            reached = _leaves(output())
    finally:
        for parameter, requires_grad in trained.items():
            parameter.requires_grad_(requires_grad)
    return {name for name, parameter in module.named_parameters() if parameter not in reached}


def _leaves(output: Tensor) -> set[Tensor]:
    leaves, seen, queue = set(), set(), [output.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().endswith("AccumulateGrad"):
            leaves.add(node.variable)  # type: ignore[attr-defined]
        queue.extend(child for child, _ in node.next_functions)
    return leaves


@contextmanager
def _without_report() -> Iterator[None]:
    # transformers tells of missing and unexpected weights alike; we tell of those that matter. A filter and not the
    # level, on which transformers decides what else to tell.
    logger = logging.get_logger("transformers.modeling_utils")
    only_errors = _OnlyErrors()
    logger.addFilter(only_errors)
    try:
        yield
    finally:
        logger.removeFilter(only_errors)


class _OnlyErrors(Filter):
    def filter(self, record: LogRecord) -> bool:
        return record.levelno >= logging.ERROR


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """No bar of transformers for the length of the block: saving takes a moment, and often."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
