"""Rows of all ranks in one tensor, for losses in which every row meets every other."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """All ranks' rows, `[N_0 + N_1 + …, D]` in the order of ranks, of this rank's `[N_r, D]`; N_r may differ.

    The gradient is right under DDP where every rank computes the same loss from what it is given: its own rows' share
    of that gradient is then complete without another rank's, and DDP divides it by the number of ranks, which the
    factor here undoes. Parameters that enter the loss on all ranks, such as a temperature, need no factor.
    One process, or none set up: the rows as they are.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    return _Gather.apply(rows)  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        world, rank = dist.get_world_size(), dist.get_rank()
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        lengths = [int(count) for count in counts]
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        everyone = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(everyone, padded)
        ctx.place = sum(lengths[:rank]), lengths[rank], world
        return torch.cat([own[:length] for own, length in zip(everyone, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        start, length, world = ctx.place
        return gradient[start : start + length] * world
