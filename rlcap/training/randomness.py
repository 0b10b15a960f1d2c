"""Randomness as a function of where the training is, never of what ran before: a resume cannot change it."""

import hashlib

import torch


def seed_of(*where: int | str) -> int:
    """A seed below 2^63 from (seed, step, micro-step, rank, purpose); different arguments give unrelated seeds."""
    digest = hashlib.sha256("/".join(map(str, where)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_of(device: torch.device | str, *where: int | str) -> torch.Generator:
    """A fresh generator on `device`, seeded by `seed_of`."""
    return torch.Generator(device=device).manual_seed(seed_of(*where))
