"""Dual encoders of open_clip: CLIP in OpenAI's layout, and all that open_clip knows by name."""

import importlib.metadata
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from rewards.dual_encoder import DualEncoder
from rewards.pac_checkpoint import Checkpoint, load_plain, read_checkpoint

try:
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from open_clip.transformer import TextTransformer, VisionTransformer
except ImportError as error:
    raise ValueError(
        f"open_clip cannot be imported ({error}), which CLIP by name and the published PAC checkpoints need: "
        "pip install 'rlcap[clip]', or give a transformers dual encoder (a directory or Hub id) as backbone"
    ) from error

_log = logging.getLogger(__name__)


class OpenClipEncoder(DualEncoder):
    """A model of open_clip (CLIP or CustomTextCLIP) in float32, in eval mode."""

    model: Any

    def __init__(self, model: Any, name: str, source: dict[str, Any], config: dict[str, Any]) -> None:
        tower = _causal_tower(model)
        tokenizer = open_clip.get_tokenizer(name)
        length = model.context_length
        super().__init__(
            _Preprocess(image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)),
            _TrimmedTokens(tokenizer, length) if tower is not None else _WholeContext(tokenizer, length),
            length,
            {**source, "open_clip": importlib.metadata.version("open_clip_torch")},
        )
        self.model = model
        self.config = config
        self.eval()

    @property
    def logit_scale(self) -> nn.Parameter:
        """CLIP's own."""
        return self.model.logit_scale

    def part_of(self, parameter: str) -> str:
        """By the model's attributes."""
        name = parameter.removeprefix("model.")
        if name.startswith("logit_"):
            return "temperature" if name == "logit_scale" else "unused"
        if name == "visual.proj" or name.removeprefix("text.").startswith("text_projection"):
            return "projections"
        return "vision" if name.startswith("visual.") else "text"

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes open_clip_config.json and the weights; open_clip reads them as `local-dir:DIRECTORY`.

        The tokenizer is named in the configuration, not written.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": self.config, "preprocess_cfg": self.model.visual.preprocess_cfg}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        save_file(
            {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()},
            folder / "open_clip_model.safetensors",
        )

    def checkpoint_activations(self) -> None:
        """By open_clip's own switch."""
        self.model.set_grad_checkpointing(True)

    def pool_images(self, pixels: Tensor) -> Tensor:
        """A ViT's pooled state before its projection; other towers' output, whose projection is part of them."""
        visual = self.model.visual
        projection = self._picture_projection()
        if projection is None:
            return self.model.encode_image(pixels)
        visual.proj = None  # open_clip has no other way to the state before it
        try:
            return visual(pixels)
        finally:
            visual.proj = projection

    def project_pooled_images(self, pooled: Tensor) -> Tensor:
        """Through a ViT's projection."""
        projection = self._picture_projection()
        return pooled if projection is None else pooled @ projection

    def pool_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """A causal tower's state at the end token (open_clip's own takes whole rows alone); other towers' output."""
        tower = _causal_tower(self.model)
        if tower is None:
            return self.model.encode_text(input_ids)
        states = _states(tower, input_ids)
        last = attention_mask.sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last]

    def project_pooled_texts(self, pooled: Tensor) -> Tensor:
        """Through a causal tower's projection."""
        tower = _causal_tower(self.model)
        return pooled if tower is None else _projected(tower, pooled)

    def _picture_projection(self) -> nn.Parameter | None:
        return self.model.visual.proj if isinstance(self.model.visual, VisionTransformer) else None

    def project_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """All states of a causal tower through its projection."""
        tower = _causal_tower(self.model)
        if tower is None:
            raise ValueError(
                f"{self.source['backbone']}: this text tower gives no states of tokens in the common space, which "
                "fine-grained EMScore needs; give granularity='coarse', or another backbone"
            )
        return _projected(tower, _states(tower, input_ids))


def load_open_clip(name: str, *, tag: str | None = None, checkpoint: str | Path | None = None) -> OpenClipEncoder:
    """The encoder of an open_clip name, with the weights of a tag or directory, or of a checkpoint file in their place.

    name: one of open_clip.list_models(), "hf-hub:ORG/NAME" or "local-dir:PATH" (with open_clip_config.json).
    tag: of that name's weights, such as "openai", whose activations it brings (QuickGELU for OpenAI's).
    checkpoint: a file in OpenAI's layout, its LoRA folded in (see pac_checkpoint). Weights of the tag or directory, if
        there are any, are then what its LoRA is told from; activations are those of the tag, else of the name.
    Raises ValueError for unknown names and tags, weights that are not there or do not match, naming their keys, and a
    checkpoint tuned from OpenAI's CLIP on an architecture without QuickGELU; where its weights do not tell, a warning.
    """
    named = ":" not in name
    if named and tag is None and checkpoint is None:
        raise ValueError(
            f"{name} is an architecture without weights; give {name}:TAG (such as openai), or a checkpoint"
        )
    tag_config = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    if tag and not tag_config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none; is the name right?"
        raise ValueError(f"open_clip knows no weights {tag!r} of {name!r}; its tags are {tags}")
    has_weights = tag is not None or name.startswith("hf-hub:") or _holds_weights(name)
    try:
        config = open_clip.get_model_config(name) or {}
        quick = bool({**config, **tag_config}.get("quick_gelu", False))
        with _without_what_we_tell():
            model = open_clip.create_model(
                name,
                tag,
                force_quick_gelu=quick,
                pretrained_text=False,
                require_pretrained=has_weights or checkpoint is None,
            )
    except Exception as error:  # the Hub's client, JSON and open_clip raise of every kind
        raise ValueError(f"open_clip cannot load {name}{f':{tag}' if tag else ''}: {error}") from error
    source: dict[str, Any] = {"backbone": f"{name}:{tag}" if tag else name}
    if checkpoint is not None:
        read = read_checkpoint(checkpoint, base=model.state_dict() if has_weights else None)
        if not quick:
            _refuse_openai(read, checkpoint, name)
        load_plain(model, read.state_dict, checkpoint)
        source |= {"checkpoint": str(checkpoint), **read.describe()}
    return OpenClipEncoder(model.float(), name, source, {**config, "quick_gelu": quick})


def _refuse_openai(read: Checkpoint, checkpoint: str | Path, name: str) -> None:
    known = f"{name}-quickgelu" in open_clip.list_models()
    backbone = f"the backbone {name}-quickgelu" if known else f'{name} with "quick_gelu": true in its configuration'
    if read.from_openai:
        told = "its MLPs are float16 numbers" if read.rank is None else "it holds LoRA weights"
        raise ValueError(
            f"{checkpoint} was tuned from OpenAI's CLIP with QuickGELU ({told}), and {name} has none; give {backbone}"
        )
    if read.from_openai is None:
        _log.warning(
            "%s is stored in half precision, so that it cannot be told whether it is OpenAI's CLIP; if it is, its "
            "scores are wrong without QuickGELU: give %s",
            checkpoint,
            backbone,
        )


@contextmanager
def _without_what_we_tell() -> Iterator[None]:
    # open_clip warns that a model without weights is random; either the checkpoint fills it, or it is refused. And it
    # logs why weights cannot be had, beside the error that it raises.
    def worth_telling(record: logging.LogRecord) -> bool:
        return not re.search(
            "initialized randomly|no CLIP weights found|^Failed to download weights", record.getMessage()
        )

    logging.getLogger().addFilter(worth_telling)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(worth_telling)


def _holds_weights(name: str) -> bool:
    files = Path(name.removeprefix("local-dir:")).glob("*") if name.startswith("local-dir:") else ()
    return any(file.suffix in (".safetensors", ".bin", ".pth") for file in files)


def _causal_tower(model: nn.Module) -> Any:
    """The text tower whose states depend on earlier tokens alone and are read at the end token; None for others."""
    if isinstance(model, CLIP):
        tower: Any = model
        pooling = model.text_pool_type
    elif isinstance(model, CustomTextCLIP) and isinstance(model.text, TextTransformer):
        tower = model.text
        pooling = tower.pool_type if tower.cls_emb is None else "class token"
    else:
        return None
    return tower if tower.attn_mask is not None and pooling in ("argmax", "eos") else None


def _states(tower: Any, ids: Tensor) -> Tensor:
    length = ids.shape[1]
    embedded = tower.token_embedding(ids) + tower.positional_embedding[:length]
    return tower.ln_final(tower.transformer(embedded, attn_mask=tower.attn_mask[:length, :length]))


def _projected(tower: Any, states: Tensor) -> Tensor:
    projection = tower.text_projection
    if projection is None:
        return states
    return projection(states) if isinstance(projection, nn.Linear) else states @ projection


@dataclass
class _Preprocess:
    transform: Callable[[Image.Image], Tensor]

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        return torch.stack([self.transform(picture) for picture in pictures])


@dataclass
class _TrimmedTokens:
    """Rows cut after the longest caption's end token, which has the highest id of CLIP's vocabulary."""

    tokenizer: Any
    context_length: int

    def __call__(self, captions: Sequence[str]) -> dict[str, Tensor]:
        ids = self.tokenizer(list(captions), context_length=self.context_length)
        ends = ids.argmax(dim=1)
        length = int(ends.max()) + 1
        mask = torch.arange(length) <= ends[:, None]
        return {"input_ids": ids[:, :length], "attention_mask": mask.long()}


@dataclass
class _WholeContext:
    """Rows of the whole context: towers that look both ways, or read the last position."""

    tokenizer: Any
    context_length: int

    def __call__(self, captions: Sequence[str]) -> dict[str, Tensor]:
        ids = self.tokenizer(list(captions), context_length=self.context_length)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
