"""One way in: a directory or a Hub id to a captioner, by the model type that its configuration names."""

import json
from pathlib import Path
from typing import Any

import torch

from captioners import lora
from captioners.base import Captioner
from captioners.blip import Blip
from captioners.blip2_opt import Blip2OPT
from captioners.blip2_t5 import Blip2T5
from captioners.chat import CHAT_FAMILIES, Chat
from captioners.encoder_decoder import EncoderDecoder
from captioners.florence2 import Florence2
from captioners.git import Git
from captioners.grid_transformer import GridTransformer
from captioners.weights import local_directory

ADAPTERS: dict[str, type[Any]] = {
    "blip": Blip,
    "blip-2 with opt": Blip2OPT,
    "blip-2 with t5": Blip2T5,
    "florence2": Florence2,
    "git": Git,
    "grid_transformer": GridTransformer,
    "vision-encoder-decoder": EncoderDecoder,
    **dict.fromkeys(CHAT_FAMILIES, Chat),
}
EXPORTS = ("best", "final")  # captioners in the folder of a run


def load(
    path_or_hub_id: str | Path,
    *,
    dtype: torch.dtype | None = None,
    max_frames: int | None = None,
    prompt: str | None = None,
) -> Captioner:
    """The captioner stored in a directory or on the Hub, in eval mode, on the CPU.

    dtype: float32 where None. max_frames: the most frames of a clip; None takes what is stored (1 for picture models),
    a larger number than stored adds frames whose temporal embedding is zero. prompt: the text that conditions every
    caption, for models that take one; None takes what is stored, or the model's own, and "" is none.
    Weights are safetensors or, in older checkpoints, `pytorch_model.bin` read as plain tensors; no code of a checkpoint
    is run. Raises ValueError where there is no whole checkpoint, or one of an unsupported type.
    """
    directory = local_directory(path_or_hub_id)
    config_file = directory / "config.json"
    if not config_file.is_file():
        found = [str(Path(path_or_hub_id) / name) for name in EXPORTS if (directory / name / "config.json").is_file()]
        hint = f"; it is a run's folder: give {' or '.join(found)}" if found else ""
        raise ValueError(f"{path_or_hub_id} holds no config.json, so it is not a captioner's checkpoint{hint}")
    try:
        model_type = _model_type(json.loads(config_file.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{config_file} is not JSON: {error}") from error
    if model_type not in ADAPTERS:
        raise ValueError(
            f"{path_or_hub_id} is a {model_type!r} model; supported captioners are {', '.join(sorted(ADAPTERS))}"
        )
    adapter = ADAPTERS[model_type]
    if prompt is not None and not adapter.takes_prompt:
        raise ValueError(f"prompt is {prompt!r}, but {path_or_hub_id} is a {model_type!r} model, which takes none")
    options = {"prompt": prompt} if adapter.takes_prompt else {}
    try:
        captioner = adapter.from_pretrained(directory, dtype or torch.float32, max_frames, **options)
    except OSError as error:
        raise ValueError(f"{path_or_hub_id} could not be loaded: {error}") from error
    lora.read(captioner, directory)
    return captioner


def _model_type(config: dict[str, Any]) -> str | None:
    # BLIP-2 is two captioners: a T5 attends to the picture, an OPT reads it as a prefix.
    if config.get("model_type") == "blip-2":
        return f"blip-2 with {config.get('text_config', {}).get('model_type', 'opt')}"
    return config.get("model_type")
