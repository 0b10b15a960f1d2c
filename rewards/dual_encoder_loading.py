"""One way to a dual encoder: by the name or path of its backbone."""

import json
from pathlib import Path

from rewards.dual_encoder import DualEncoder

TRAINING_FILE = "training.json"  # how an encoder of `rlcap reward pac` was trained


def load_dual_encoder(backbone: str | Path, *, checkpoint: str | Path | None = None) -> DualEncoder:
    """The dual encoder of a backbone, in float32, in eval mode, on the CPU.

    backbone: a directory or Hub id (ORG/NAME) of a transformers model (CLIP, SigLIP, VisionTextDualEncoder); a
        directory or "hf-hub:ORG/NAME" of open_clip, with open_clip_config.json; or an open_clip name with the
        tag of its weights, such as "ViT-B-32:openai"; with a checkpoint the name alone will do.
    checkpoint: a file in OpenAI's layout that replaces all weights, such as the published PAC-S and PAC-S++; for
        backbones of open_clip.
    A directory that `rlcap reward pac` wrote says in `describe` how it was trained (`training`).
    Raises ValueError where nothing is found, weights are missing, or weights do not match, naming their keys.
    """
    encoder = _load(backbone, checkpoint)
    record = Path(backbone) / TRAINING_FILE
    if record.is_file():
        encoder.source["training"] = json.loads(record.read_text(encoding="utf-8"))
    return encoder


def _load(backbone: str | Path, checkpoint: str | Path | None) -> DualEncoder:
    path, name = Path(backbone), str(backbone)
    if is_open_clip_name(backbone):
        from rewards.open_clip_encoder import load_open_clip

        architecture, _, tag = name.partition(":")
        return load_open_clip(architecture, tag=tag or None, checkpoint=checkpoint)
    if name.startswith("hf-hub:") or (path / "open_clip_config.json").is_file():
        from rewards.open_clip_encoder import load_open_clip

        return load_open_clip(name if name.startswith("hf-hub:") else f"local-dir:{path}", checkpoint=checkpoint)
    if checkpoint is not None:
        raise ValueError(
            f"checkpoint is {checkpoint}, a file in OpenAI's layout, but the backbone {name} is no model of open_clip; "
            "give an open_clip name, such as ViT-B-32-quickgelu"
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"{path} holds neither config.json (transformers) nor open_clip_config.json (open_clip)")
    from rewards.transformers_encoder import TransformersEncoder

    return TransformersEncoder.from_pretrained(backbone)


def is_open_clip_name(backbone: object) -> bool:
    """Whether this is NAME or NAME:TAG of open_clip, and not a directory or a Hub id, which has a slash."""
    if not isinstance(backbone, str) or backbone.startswith("hf-hub:") or Path(backbone).is_dir():
        return False
    return "/" not in backbone.partition(":")[0]
