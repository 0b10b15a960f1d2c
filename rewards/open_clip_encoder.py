"""Dual encoders of open_clip: CLIP in OpenAI's layout, and all that open_clip knows by name."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from rewards.dual_encoder import DualEncoder
from rewards.pac_checkpoint import load_plain, read_checkpoint

try:
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transformer import TextTransformer
except ImportError as error:
    raise ValueError(
        f"open_clip cannot be imported ({error}), which CLIP by name and the published PAC checkpoints need: "
        "pip install 'rlcap[clip]', or give a transformers dual encoder (a directory or Hub id) as backbone"
    ) from error


class OpenClipEncoder(DualEncoder):
    """A model of open_clip (CLIP or CustomTextCLIP) in float32, in eval mode."""

    def __init__(self, model: nn.Module, name: str, source: dict[str, Any]) -> None:
        tower = _causal_tower(model)
        tokenizer = open_clip.get_tokenizer(name)
        length = model.context_length
        super().__init__(
            _Preprocess(open_clip.image_transform_v2(_preprocess_config(model), is_train=False)),
            _TrimmedTokens(tokenizer, length) if tower is not None else _WholeContext(tokenizer, length),
            length,
            {**source, "open_clip": importlib.metadata.version("open_clip_torch")},
        )
        self.model = model
        self.eval()

    @property
    def logit_scale(self) -> nn.Parameter:
        """CLIP's own."""
        return self.model.logit_scale

    def project_images(self, pixels: Tensor) -> Tensor:
        """The picture tower's output."""
        return self.model.encode_image(pixels)

    def project_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The text tower's output; a causal tower's is computed here, as open_clip's takes nothing but whole rows."""
        tower = _causal_tower(self.model)
        if tower is None:
            return self.model.encode_text(input_ids)
        states = _states(tower, input_ids)
        last = attention_mask.sum(dim=1) - 1
        return _projected(tower, states[torch.arange(len(states), device=states.device), last])

    def project_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """All states of a causal tower through its projection."""
        tower = _causal_tower(self.model)
        if tower is None:
            raise ValueError(
                f"{self.source['backbone']}: this text tower gives no states of tokens in the common space, which "
                "fine-grained EMScore needs; give granularity='coarse', or another backbone"
            )
        return _projected(tower, _states(tower, input_ids))


def load_open_clip(
    name: str, *, pretrained: str | None = None, checkpoint: str | Path | None = None
) -> OpenClipEncoder:
    """The encoder of an open_clip name with the weights of a tag, or of a checkpoint file, or of a tag and then a file.

    name: one of open_clip.list_models(), "hf-hub:ORG/NAME" or "local-dir:PATH" (with open_clip_config.json).
    pretrained: a tag of that name ("openai", "laion2b_s34b_b79k"), or a file in OpenAI's or open_clip's layout.
    checkpoint: a file in OpenAI's layout, LoRA folded in (see pac_checkpoint); weights of `pretrained`, or of the
        directory, are then what its LoRA is told from.
    Activations follow the tag (OpenAI's weights take QuickGELU); of a file alone the name decides them.
    Raises ValueError for unknown names and tags, weights that are not there or do not fit, by the names of their keys,
    and a published LoRA checkpoint on an architecture without QuickGELU.
    """
    named = ":" not in name
    if named and not (pretrained or checkpoint):
        raise ValueError(
            f"{name} names an architecture without weights; give {name}:TAG (such as openai), or checkpoint=FILE"
        )
    tag_config = open_clip.get_pretrained_cfg(name, pretrained) if named and pretrained else {}
    quick = bool(tag_config.get("quick_gelu", False))
    try:
        config = open_clip.get_model_config(name)
    except Exception as error:  # the Hub's client and JSON raise of every kind
        raise ValueError(f"{name}: no configuration of open_clip can be had: {error}") from error
    if config is None:
        raise ValueError(f"{name!r} is neither a directory, a Hub id ORG/NAME, nor a model that open_clip knows")
    if tag_config and config.get("quick_gelu", False) and not quick:
        raise ValueError(f"{name} has QuickGELU, but the weights {pretrained!r} were trained without it")
    file = pretrained if pretrained is not None and not tag_config and Path(pretrained).is_file() else None
    has_base = _has_weights(name, pretrained)
    try:
        model = open_clip.create_model(
            name,
            None if file else pretrained,
            force_quick_gelu=quick,
            pretrained_text=False,
            require_pretrained=file is None and (has_base or checkpoint is None),
        )
    except Exception as error:  # as above, and RuntimeError for keys and tags
        raise ValueError(f"{name}{':' + pretrained if pretrained else ''} cannot be loaded: {error}") from error
    source: dict[str, Any] = {"backbone": f"{name}:{pretrained}" if pretrained else name}
    if file is not None:
        load_plain(model, read_checkpoint(file).state_dict, file)
    if checkpoint is not None:
        base = model.state_dict() if has_base else None
        read = read_checkpoint(checkpoint, base=base)
        if read.rank is not None and not (quick or config.get("quick_gelu", False)):
            raise ValueError(
                f"{checkpoint} holds LoRA weights, which are published for OpenAI's CLIP with QuickGELU, and {name} "
                f"has none; give the backbone {name}-quickgelu"
            )
        load_plain(model, read.state_dict, checkpoint)
        source |= {"checkpoint": str(checkpoint), **read.describe()}
    return OpenClipEncoder(model.float(), name, source)


def _has_weights(name: str, pretrained: str | None) -> bool:
    if pretrained is not None or name.startswith("hf-hub:"):
        return True
    files = Path(name.removeprefix("local-dir:")).glob("*") if ":" in name else ()
    return any(file.suffix in (".safetensors", ".bin", ".pth") for file in files)


def _preprocess_config(model: nn.Module) -> Any:
    return open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)


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
