"""The parts of a captioner as they train: groups with their learning rates, and the table of them at the start."""

from typing import Any

from torch import nn

from captioners.base import PARTS, Captioner
from rlcap.training.arguments import CaptionerTrainingArguments


def parameter_groups(
    captioner: Captioner, model: nn.Module, args: CaptionerTrainingArguments, decayed: set[str]
) -> list[dict[str, Any]]:
    """One optimizer group a part and kind: its learning rate, and weight decay for the names in `decayed` alone.

    `model` is the captioner, or what wraps it, whose parameters are named.
    """
    part_of = {id(p): part for part, modules in captioner.parts().items() for m in modules for p in m.parameters()}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((part_of[id(parameter)], name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": args.part_learning_rate(part),
            "weight_decay": args.weight_decay if decay else 0.0,
        }
        for (part, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def parts_table(captioner: Captioner, args: CaptionerTrainingArguments) -> str:
    """What trains, as text: parameters, how many of them train, and the learning rate of every part."""
    lines = [f"{'part':<10} {'parameters':>12} {'training':>12}  learning rate"]
    for part in PARTS:
        parameters = {id(p): p for module in captioner.parts()[part] for p in module.parameters()}.values()
        training = sum(p.numel() for p in parameters if p.requires_grad)
        rate = f"{args.part_learning_rate(part):g}" if training else "frozen"
        if captioner.lora is not None and part in captioner.lora.parts:
            rate += f" (LoRA of rank {captioner.lora.rank})"
        lines.append(f"{part:<10} {sum(p.numel() for p in parameters):>12,} {training:>12,}  {rate}")
    unused = sorted(captioner.unused_parameters())
    if unused:
        lines.append(f"never used by this model, and frozen: {', '.join(unused)}")
    return "\n".join(lines)
