"""A hash of a model's weights, for the record of what scored."""

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module, how: str = "") -> str:
    """A hash of all weights and buffers by name, with their types and shapes, and of how they are used: "sha256:…"."""
    digest = hashlib.sha256(how.encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"
