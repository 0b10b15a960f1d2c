"""What of a dual encoder trains: LoRA, projections or whole towers; and LoRA merged into plain weights."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrize

from rewards.dual_encoder import DualEncoder

ADAPTER = "default"


@dataclass(frozen=True)
class Lora:
    """Updates of low rank, scaled by alpha / rank.

    dropout: before the update, of all but nn.MultiheadAttention, for which it must be 0.
    targets: ends of the names of layers that get one; None is every linear layer, convolution and nn.MultiheadAttention
    of the towers that are tuned. Embeddings and projections get none, as published.
    """

    rank: int = 4
    alpha: float = 1.0
    dropout: float = 0.0
    targets: Sequence[str] | None = None


def tune(encoder: DualEncoder, what: str, towers: Sequence[str], lora: Lora) -> set[str]:
    """Sets which parameters of an encoder train, in place, and returns the parts (see `PARTS`) in which any does.

    what: "lora" (of the `towers`), "projections", or "all" (the `towers` and the projections). The temperature trains
    in any case, and so do new weights. Raises ValueError where there is nothing of that kind to train, and for dropout
    of layers that can have none.
    """
    part_of = {name: encoder.part_of(name) for name, _ in encoder.named_parameters()}
    whole = {"lora": (), "projections": ("projections",), "all": ("projections", *towers)}[what]
    tuned = {"temperature"}
    for name, parameter in encoder.named_parameters():
        trains = part_of[name] in (*whole, "temperature") or name in encoder.new
        parameter.requires_grad_(trains)
        if trains:
            tuned.add(part_of[name])
    if what == "projections" and "projections" not in tuned:
        raise ValueError(
            f"{encoder.source['backbone']} has no projections apart from its towers: give tune lora, or all"
        )
    if what == "lora":
        _add_lora(encoder, part_of, towers, lora)
        tuned |= set(towers)
    return tuned


def merged(encoder: DualEncoder) -> DualEncoder:
    """A copy of the encoder on the CPU with plain layers, every update of LoRA added to their weights."""
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(encoder).cpu()
    for name, module in list(plain.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()  # type: ignore[operator]
            plain.set_submodule(name, module.get_base_layer())
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            # Not remove_parametrizations: it would take the weight from the class, which the original shares.
            weights = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight))
    return plain


class _Update(nn.Module):
    """W + alpha / rank · B A as a parametrization of a weight [out, in]."""

    def __init__(self, weight: Tensor, lora: Lora) -> None:
        super().__init__()
        self.scaling = lora.alpha / lora.rank
        self.lora_A = nn.Parameter(weight.new_empty(lora.rank, weight.shape[1]))
        self.lora_B = nn.Parameter(weight.new_zeros(weight.shape[0], lora.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scaling * self.lora_B @ self.lora_A


def _add_lora(encoder: DualEncoder, part_of: dict[str, str], towers: Sequence[str], lora: Lora) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    attentions: dict[str, nn.MultiheadAttention] = {}
    layers: list[str] = []
    for name, module in encoder.named_modules():
        parts = {part_of[f"{name}.{own}"] for own, _ in module.named_parameters(recurse=False)}
        wanted = lora.targets is None or name.endswith(tuple(lora.targets))
        if not wanted or not parts or not parts <= set(towers):
            continue
        if isinstance(module, nn.MultiheadAttention):
            attentions[name] = module
        elif isinstance(module, nn.Linear | nn.Conv2d) and name.rpartition(".")[0] not in attentions:
            layers.append(name)
    if not layers and not attentions:
        looked = "linear layers, convolutions or attention" if lora.targets is None else ", ".join(lora.targets)
        raise ValueError(f"LoRA: the {' and '.join(towers)} of {encoder.source['backbone']} has no {looked}")
    if attentions and lora.dropout:
        raise ValueError(
            f"lora_dropout is {lora.dropout}, but {len(attentions)} of the layers that get LoRA are "
            f"nn.MultiheadAttention ({next(iter(attentions))} …), whose update has no dropout; set it to 0, or name "
            "other layers in lora_targets"
        )
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    if layers:
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a number, whatever its type
            lora_dropout=lora.dropout,
            target_modules=layers,
        )
        inject_adapter_in_model(config, encoder, adapter_name=ADAPTER)
    # Not by peft: its layer for them adds and takes away the update at every step, and rounding moves frozen weights.
    for module in attentions.values():
        parametrize.register_parametrization(module, "in_proj_weight", _Update(module.in_proj_weight, lora))
        parametrize.register_parametrization(module.out_proj, "weight", _Update(module.out_proj.weight, lora))
    for name, parameter in encoder.named_parameters():
        if name in trained:  # peft freezes all but its own matrices
            parameter.requires_grad_(True)
