"""One way in: a directory or a Hub id to a captioner, by the model type that its configuration names."""

import json
from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from captioners.base import Captioner
from captioners.encoder_decoder import EncoderDecoder
from captioners.grid_transformer import GridTransformer

ADAPTERS: dict[str, type[EncoderDecoder] | type[GridTransformer]] = {
    "vision-encoder-decoder": EncoderDecoder,
    "grid_transformer": GridTransformer,
}
FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
OLDER_WEIGHTS = "pytorch_model*.bin"


def load(path_or_hub_id: str | Path, *, dtype: torch.dtype | None = None, max_frames: int | None = None) -> Captioner:
    """The captioner stored in a directory or on the Hub, in eval mode, on the CPU.

    dtype: float32 where None. max_frames: the most frames of a clip; None takes what is stored (1 for picture models),
    a larger number than stored adds frames whose temporal embedding is zero. Weights are safetensors or, in older
    checkpoints, `pytorch_model.bin` read as plain tensors; no code of a checkpoint is run.
    Raises ValueError where there is no whole checkpoint, or one of an unsupported type.
    """
    directory = Path(path_or_hub_id)
    if not directory.is_dir():
        directory = _downloaded(str(path_or_hub_id))
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise ValueError(f"{path_or_hub_id} holds no config.json, so it is not a captioner's checkpoint")
    try:
        model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except json.JSONDecodeError as error:
        raise ValueError(f"{config_file} is not JSON: {error}") from error
    if model_type not in ADAPTERS:
        raise ValueError(
            f"{path_or_hub_id} is a {model_type!r} model; supported captioners are {', '.join(sorted(ADAPTERS))}"
        )
    try:
        return ADAPTERS[model_type].from_pretrained(directory, dtype or torch.float32, max_frames)
    except OSError as error:
        raise ValueError(f"{path_or_hub_id} could not be loaded: {error}") from error


def _downloaded(hub_id: str) -> Path:
    try:
        snapshot = Path(snapshot_download(hub_id, allow_patterns=FILES))
        if not any(snapshot.rglob("*.safetensors")):
            snapshot = Path(snapshot_download(hub_id, allow_patterns=[*FILES, OLDER_WEIGHTS]))
        return snapshot
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{hub_id} is neither a directory here nor a model that the Hub would give: {error}"
        ) from error
