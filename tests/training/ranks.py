"""Runs a function on two gloo processes, started by a server that has imported the trainers once."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

IMPORTED = ["rlcap.training.scst", "rlcap.training.ranking_dpo", "small", "tiny"]


def on_ranks(function: Callable[..., None], folder: Path, *arguments: Any, world: int = 2, seconds: int = 300) -> None:
    """`function(rank, folder, *arguments)` on each rank; raises where one fails. A hang ends after `seconds`."""
    mp.get_context("forkserver").set_forkserver_preload(IMPORTED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_rank, (world, port, seconds, function, folder, arguments), world, start_method="forkserver")


def _rank(
    rank: int, world: int, port: int, seconds: int, function: Callable[..., None], folder: Path, arguments: Any
) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {name: str(value) for name, value in {**ranks, "MASTER_PORT": port}.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))
    function(rank, folder, *arguments)
    dist.barrier()  # gloo may abort where one tears down while another still talks
    dist.destroy_process_group()
