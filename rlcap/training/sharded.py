"""Weights that are shared out over ranks (FSDP2, DeepSpeed ZeRO-3): sampled from in step, written and read whole.

A rank that runs a layer waits for the others to bring their shards of it. So all ranks run the same layers the same
number of times: sampling ends on all of them at once (`Captioner.synchronised`), and what one rank leaves out, all do.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from captioners.base import Captioner

FORWARD_METHODS = ("seen", "encode", "sample", "greedy", "beam_search")
"""What of a captioner runs its layers, beside `forward`."""


def will_shard(accelerator: Accelerator) -> bool:
    """Whether `prepare` shares weights out. Raises ValueError under FSDP's first version: it cannot sample."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return accelerator.state.deepspeed_plugin.zero_stage == 3
    if accelerator.distributed_type != DistributedType.FSDP:
        return False
    if not accelerator.is_fsdp2:
        raise ValueError("FSDP's version is 1; captioners can be sampled from under version 2: set fsdp_version: 2")
    return True


def run_in_step(captioner: Captioner) -> None:
    """Lets a captioner whose weights have been shared out be used by all its methods; all ranks call it.

    ZeRO-3 gathers by hooks on the layers themselves, FSDP2 by hooks on methods, which are registered here. Raises
    ValueError where sampling is compiled.
    """
    if captioner.samples_compiled:
        raise ValueError("compile_sampling is for whole weights (one GPU, or DDP): these are sharded; set it to false")
    captioner.synchronised = True
    for name in FORWARD_METHODS:
        register_fsdp_forward_method(captioner, name)


@contextmanager
def whole_weights(captioner: Captioner, model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """On rank 0, the captioner with its whole weights, on the CPU, in place of its shards; all ranks enter it.

    model: the captioner as accelerate has wrapped it. Elsewhere, and where nothing is sharded, nothing changes.
    """
    weights = accelerator.get_state_dict(model) if captioner.synchronised else None
    if not weights or not accelerator.is_main_process:
        yield
        return
    kept = {
        (module, own): (parameter, weights[f"{name}.{own}" if name else own])
        for name, module in captioner.named_modules()
        for own, parameter in module.named_parameters(recurse=False)
    }
    wholes: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    try:
        for (module, own), (parameter, whole) in kept.items():
            if parameter not in wholes:
                wholes[parameter] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
            setattr(module, own, wholes[parameter])
        yield
    finally:
        for (module, own), (parameter, _) in kept.items():
            setattr(module, own, parameter)


def load_weights(captioner: Captioner, weights: Mapping[str, Tensor]) -> None:
    """Takes whole weights, the same on all ranks, each rank its shards of them."""
    if isinstance(captioner, FSDPModule):
        set_model_state_dict(captioner, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        captioner.load_state_dict(weights)


def all_agree(captioner: Captioner, own: bool) -> bool:
    """Whether it is so on all ranks, where they must do the same; else what holds here."""
    if not captioner.synchronised:
        return own
    flag = torch.tensor(int(own), device=captioner.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
    return bool(flag)
