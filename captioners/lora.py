"""LoRA (Hu et al. 2021) on parts of a captioner: small matrices train beside layers that stay as they are.

An export has them merged, and is a plain checkpoint; a run keeps them apart, to go on from the same bits.
"""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from captioners.base import Captioner

LORA_FILE = "lora.safetensors"
ADAPTER = "default"
QUERY_AND_VALUE = ("q_proj", "v_proj", "query", "value", "qkv")
"""What the attention layers of vision Transformers call their query and value projections, or the one that is both."""


@dataclass(frozen=True)
class LoraSettings:
    """The parts that get LoRA, the rank of its matrices, its scale alpha / rank, and the dropout before it.

    Raises ValueError on values outside the ranges named here. rank: at least 1. alpha: above 0. dropout: in [0, 1).
    """

    parts: tuple[str, ...]
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "parts": (len(self.parts) > 0, "at least one part"),
            "rank": (self.rank >= 1, "at least 1"),
            "alpha": (self.alpha > 0, "above 0"),
            "dropout": (0 <= self.dropout < 1, "at least 0 and below 1"),
        }
        for name, (holds, allowed) in checks.items():
            if not holds:
                raise ValueError(f"LoRA: {name} is {self.__dict__[name]!r}; it must be {allowed}")


def inject(captioner: "Captioner", settings: LoraSettings) -> None:
    """Puts LoRA beside the layers that the adapter names in `lora_targets`; nothing that the captioner says changes.

    The matrices are drawn from torch's global generator. Raises ValueError where a part has no such layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = [name for part in settings.parts for name in _targets(captioner, part)]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a number, whatever its type
        lora_dropout=settings.dropout,
        target_modules="|".join(map(re.escape, layers)),
    )
    with warnings.catch_warnings():
        # It sets fan_in_fan_out for the layers of GPT-2 itself, and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        inject_adapter_in_model(config, captioner, adapter_name=ADAPTER)


def _targets(captioner: "Captioner", part: str) -> list[str]:
    parts, targets = captioner.parts(), captioner.lora_targets().get(part, ())
    if part not in parts:
        raise ValueError(f"LoRA: no part named {part}; the parts are {', '.join(parts)}")
    of_part = {id(module) for root in parts[part] for module in root.modules()}
    found = [
        name
        for name, module in captioner.named_modules()
        if id(module) in of_part and isinstance(module, nn.Linear | Conv1D) and name.rpartition(".")[2] in targets
    ]
    if not found:
        raise ValueError(
            f"LoRA: the {part} of this {type(captioner).__name__} has no layers for it"
            + (f" (looked for {', '.join(targets)})" if targets else "")
            + "; train the part whole, or freeze it"
        )
    return found


def kept(captioner: "Captioner") -> set[int]:
    """The ids of the parameters that stay as they are because LoRA trains in their place."""
    if captioner.lora is None:
        return set()
    trained = {id(parameter) for parameter in matrices(captioner).values()}
    parts = captioner.parts()
    held = {id(p) for part in captioner.lora.parts for module in parts[part] for p in module.parameters()}
    return held - trained


def matrices(captioner: "Captioner") -> dict[str, nn.Parameter]:
    """The parameters of LoRA by their names."""
    found: dict[str, nn.Parameter] = {}
    for name, layer in _layers(captioner).items():
        base = {id(parameter) for parameter in layer.get_base_layer().parameters()}
        found |= {f"{name}.{own}": p for own, p in layer.named_parameters() if id(p) not in base}
    return found


@contextmanager
def plain(captioner: "Captioner", merge: bool) -> Iterator[None]:
    """The captioner without LoRA's layers for the length of the block, their sum merged into the others or left out.

    Afterwards every weight is again what it was, to the bit.
    """
    layers = _layers(captioner)
    before: dict[str, Tensor] = {}
    try:
        for name, layer in layers.items():
            base = layer.get_base_layer()
            before[name] = base.weight.data
            if merge:
                with torch.no_grad():
                    base.weight.data = base.weight.data + layer.get_delta_weight(ADAPTER)
            captioner.set_submodule(name, base)
        yield
    finally:
        for name, weight in before.items():
            layers[name].get_base_layer().weight.data = weight
            captioner.set_submodule(name, layers[name])


def write(captioner: "Captioner", directory: Path) -> None:
    """Writes the matrices and their settings into one file."""
    assert captioner.lora is not None
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in matrices(captioner).items()}
    save_file(tensors, directory / LORA_FILE, metadata={"settings": json.dumps(asdict(captioner.lora))})


def read(captioner: "Captioner", directory: Path) -> None:
    """Gives the captioner the LoRA that lies in a directory, where there is one.

    Raises ValueError where it is that of another model.
    """
    stored = directory / LORA_FILE
    if not stored.is_file():
        return
    with safe_open(stored, framework="pt") as file:
        fields = json.loads(file.metadata()["settings"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    captioner.add_lora(LoraSettings(**{**fields, "parts": tuple(fields["parts"])}))
    own = matrices(captioner)
    if {name: p.shape for name, p in own.items()} != {name: t.shape for name, t in tensors.items()}:
        raise ValueError(f"{stored} was not made for this model: its layers have other names or sizes")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _layers(captioner: "Captioner") -> dict[str, Any]:
    if captioner.lora is None:
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in captioner.named_modules() if isinstance(module, LoraLayer)}
