"""InfoNCE over two gloo processes equals that over one with the whole batch, gradients and all."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.functional import normalize

from rlcap.objectives.contrastive import info_nce
from rlcap.training.gathering import gather_rows


class Encoders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.picture, self.caption = nn.Linear(6, 4), nn.Linear(5, 4)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pictures: torch.Tensor, captions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return normalize(self.picture(pictures)), normalize(self.caption(captions)), self.scale.exp()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(1)
    return torch.randn(7, 6, generator=noise), torch.randn(7, 5, generator=noise)


def loss_of(model: nn.Module, pictures: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    seen, read, scale = model(pictures, captions)
    return info_nce(gather_rows(seen), gather_rows(read), scale)


def one_of_two(rank: int, folder: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    torch.set_num_threads(1)
    model = nn.parallel.DistributedDataParallel(Encoders())
    own = slice(0, 4) if rank == 0 else slice(4, 7)  # 4 rows here, 3 there
    loss = loss_of(model, *(tensor[own] for tensor in batch()))
    loss.backward()
    gradients = {name: p.grad for name, p in model.module.named_parameters()}
    torch.save({"loss": loss.detach(), **gradients}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent))  # where spawned processes find this module
    mp.start_processes(one_of_two, (str(tmp_path),), nprocs=2, start_method="spawn")
    model = Encoders()
    loss = loss_of(model, *batch())
    loss.backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found.pop("loss"), loss.detach())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-5)
