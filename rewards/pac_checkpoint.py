"""Checkpoints of CLIP in OpenAI's layout, the published PAC-S and PAC-S++ files among them, their LoRA folded in."""

import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

LORA_ALPHA = 1.0  # so that the update's factor is 1 / rank: 0.25 for the published rank of 4
_MATRIX = re.compile(r"(.*\.attn\.in_proj_weight)_lora_A$|(.*\.attn\.out_proj)\.lora_A$")
_CONVOLUTION = re.compile(r"(visual\.conv1)\.lora_A$")
_MLP = re.compile(r"(.*\.mlp\.(?:c_fc|c_proj))\.lora_A$")
_MLP_WEIGHT = re.compile(r"(?:visual\.)?transformer\.resblocks\.\d+\.mlp\.(?:c_fc|c_proj)\.weight")
_CLEARLY = 0.05  # a residual this small a share of the other one decides
_NAMED = 5  # keys named in a message

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A plain CLIP state in float32, without LoRA keys.

    rank: of the LoRA that was folded in; None where the file has none.
    mlp: of a file with LoRA, whether its MLP weights already hold their update: "merged", "unmerged" or "undetermined".
    from_openai: whether it was tuned from OpenAI's CLIP, whose activations are QuickGELU; None where that cannot be
        told.
    """

    state_dict: dict[str, Tensor]
    rank: int | None
    mlp: str | None
    from_openai: bool | None

    def describe(self) -> dict[str, Any]:
        """What the file was found to be, for the record of a score."""
        return {} if self.rank is None else {"lora_rank": self.rank, "mlp_lora": self.mlp}


def read_checkpoint(path: str | Path, *, base: Mapping[str, Tensor] | None = None) -> Checkpoint:
    """Read a state dict, or a dict that holds one as "state_dict": safetensors, or what torch.load reads as tensors.

    base: the state of the CLIP that LoRA was trained on, to tell merged MLP weights from unmerged ones.
    Raises ValueError where the file is missing, is no such thing, or has LoRA keys that are not those of
    `fold_lora`.
    """
    content = _content(Path(path))
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{path} holds no state dict: expected names of parameters with tensors, or these under state_dict"
        )
    # What OpenAI's archives keep beside the weights.
    state = {k: v for k, v in state.items() if k not in ("input_resolution", "context_length", "vocab_size")}
    return fold_lora(state, path, base=base)


def fold_lora(
    state: Mapping[str, Tensor], where: str | Path, *, base: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """The plain CLIP whose outputs are those of the published code (aimagelab/pacscore, models/clip_lora) on `state`.

    There the updates (1 / rank) B A of attention (`attn.in_proj_weight`, `attn.out_proj`) and of `visual.conv1` are
    always applied at run time, so they are added to the weights here. The MLPs' (`mlp.c_fc`, `mlp.c_proj`) never are:
    the layers are marked as merged before the checkpoint is loaded. So MLP weights are taken as they stand in the file,
    which is right where they were saved merged, and leaves their update out where they were not. Which of the two the
    file is, is told from `base`, or without it from OpenAI's weights being float16 numbers; it is logged, a warning if
    unmerged, and recorded.

    Raises ValueError, naming the keys, for LoRA keys of other layers or without their partner or weight, and where MLP
    weights are neither those of `base` nor these with the update.
    """
    plain = {key: value.float() for key, value in state.items() if "lora_" not in key}
    known: set[str] = set()
    ranks: set[int] = set()
    mlp: dict[str, Tensor] = {}
    for key in state:
        target, kernel = _target(key, plain)
        if target is None:
            continue
        partner = key[: -len("A")] + "B"
        if partner not in state or target not in plain:
            raise ValueError(f"{where} has {key} without {partner if partner not in state else target}")
        known |= {key, partner}
        rank = state[key].shape[0] // kernel
        ranks.add(rank)
        try:
            update = (state[partner].float() @ state[key].float()).view(plain[target].shape) * (LORA_ALPHA / rank)
        except (RuntimeError, ZeroDivisionError) as error:
            raise ValueError(f"{where}: {key} and {partner} do not fit {target}: {error}") from error
        if _MLP.match(key):
            mlp[target] = update
        else:
            plain[target] = plain[target] + update
    unknown = sorted(key for key in state if "lora_" in key and key not in known)
    if unknown:
        raise ValueError(f"{where} has LoRA weights of layers that PAC-S++ has none in: {_first(unknown)}")
    if not ranks:
        return Checkpoint(plain, None, None, _from_openai(state, base))
    if len(ranks) > 1:
        raise ValueError(f"{where} has LoRA weights of different ranks: {sorted(ranks)}")
    stored_in_half = any(state[key].dtype in (torch.float16, torch.bfloat16) for key in mlp)
    found = _mlp_found(plain, mlp, where, base, stored_in_half)
    return Checkpoint(plain, ranks.pop(), found, from_openai=True)  # LoRA is published for no other CLIP


def load_plain(model: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Load all of `state` into all of `model`; raises ValueError naming keys that lack, are left over or misshapen."""
    own = model.state_dict()
    problems = {
        "lacks": sorted(own.keys() - state.keys()),
        "has, but the backbone has not,": sorted(state.keys() - own.keys()),
        "has in other shapes": [
            f"{key} {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
            for key in sorted(own.keys() & state.keys())
            if state[key].shape != own[key].shape
        ],
    }
    told = [f"it {what} {len(keys)}: {_first(keys)}" for what, keys in problems.items() if keys]
    if told:
        raise ValueError(f"{where} does not match its backbone; {'; '.join(told)}")
    model.load_state_dict(state)


def _content(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint of tensors: {error}") from error


def _target(key: str, plain: Mapping[str, Tensor]) -> tuple[str | None, int]:
    """The weight that a lora_A key updates, and the convolution kernel's side that its rows are repeated by."""
    if match := _MATRIX.match(key):
        return match[1] or f"{match[2]}.weight", 1
    if match := _CONVOLUTION.match(key):
        weight = f"{match[1]}.weight"
        return weight, plain[weight].shape[-1] if weight in plain else 1
    if match := _MLP.match(key):
        return f"{match[1]}.weight", 1
    return None, 1


def _from_openai(state: Mapping[str, Tensor], base: Mapping[str, Tensor] | None) -> bool | None:
    """Of a file without LoRA: whether its MLPs, which published tuning leaves alone, are OpenAI's float16 numbers.

    False where they are the base's, whatever that is; None where all is stored in half precision, as anyone's may be.
    """
    mlps = {key: weight for key, weight in state.items() if _MLP_WEIGHT.fullmatch(key)}
    if base is not None and all(key in base and torch.equal(mlps[key], base[key].to(mlps[key].dtype)) for key in mlps):
        return False
    if any(weight.dtype in (torch.float16, torch.bfloat16) for weight in mlps.values()):
        return None
    return bool(mlps) and all(_distance(weight, None) == 0.0 for weight in mlps.values())


def _distance(weight: Tensor, base: Tensor | None) -> float:
    # LoRA never trains the weight itself, and OpenAI's are float16 numbers; with an update added they are none.
    nearest = weight.half().float() if base is None else base
    return (weight - nearest).abs().sum().item()


def _mlp_found(
    plain: Mapping[str, Tensor],
    updates: Mapping[str, Tensor],
    where: str | Path,
    base: Mapping[str, Tensor] | None,
    stored_in_half: bool,
) -> str:
    """Which of W and W - update, summed over the MLPs, lies nearer to the base's weights."""
    as_is = without = size = 0.0
    for key, update in updates.items():
        if base is not None and (key not in base or base[key].shape != plain[key].shape):
            raise ValueError(f"{where} does not match the base that its LoRA is told from: {key}")
        nearest = None if base is None else base[key].float()
        as_is += _distance(plain[key], nearest)
        without += _distance(plain[key] - update, nearest)
        size += update.abs().sum().item()
    if size == 0.0 or (base is None and stored_in_half):
        found = "undetermined"  # of no consequence where the updates are all zero
    elif as_is <= _CLEARLY * without:
        found = "unmerged"
    elif without <= _CLEARLY * as_is:
        found = "merged"
    elif base is not None:
        raise ValueError(
            f"{where}: the MLP weights are neither those of the base nor these with their LoRA update; the base is "
            f"another one: {_first(sorted(updates))}"
        )
    else:
        found = "undetermined"
    told = {
        "unmerged": "its MLP weights do not hold their LoRA update, which is left out, as the published code leaves it",
        "merged": "its MLP weights hold their LoRA update",
        "undetermined": "whether its MLP weights hold their LoRA update cannot be told; they are taken as they are, as "
        "the published code takes them",
    }
    _log.log(logging.WARNING if found == "unmerged" else logging.INFO, "%s: %s", where, told[found])
    return found


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
