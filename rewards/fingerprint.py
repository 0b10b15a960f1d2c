"""Hashes of what scored, and the libraries it scored with, for the record of a run."""

import hashlib
import importlib.metadata
from collections.abc import Iterable

import torch
from torch import nn


def fingerprint(module: nn.Module, how: str = "") -> str:
    """A hash of all weights and buffers by name, with their types and shapes, and of how they are used: "sha256:…"."""
    digest = hashlib.sha256(how.encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


def fingerprint_of(parts: Iterable[str | bytes]) -> str:
    """A hash of texts and bytes, which are told apart: "sha256:…"."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(raw)} ".encode() + raw)
    return f"sha256:{digest.hexdigest()}"


def versions(*packages: str) -> dict[str, str]:
    """The versions of installed packages by name."""
    return {package: importlib.metadata.version(package) for package in packages}
