"""A key-value cache that a token is written into, where transformers' copies all tokens before it at every step."""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Tokens that there is room for behind those that a layer holds, each time that it has to be moved; it is memory."""


class RoomyLayer(DynamicLayer):
    """Keys and values [R, heads, T, D] at the front of larger tensors; with gradient a DynamicLayer."""

    _room: tuple[Tensor, ...] = ()
    _front: Tensor | None = None  # the keys as they were left: others, selected or repeated, lie somewhere else

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Appends keys and values [R, heads, S, D]; returns all of them."""
        if torch.is_grad_enabled() or self.keys is None or self.values is None:
            return super().update(key_states, value_states, *args, **kwargs)
        past = self.keys.shape[-2]
        length = past + key_states.shape[-2]
        if self.keys is not self._front or self._room[0].shape[-2] < length:
            self._room = tuple(_with_room(held, length + ROOM) for held in (self.keys, self.values))
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[..., past:length, :] = new
        self.keys, self.values = (room[..., :length, :] for room in self._room)
        self._front = self.keys
        return self.keys, self.values


def _with_room(held: Tensor, length: int) -> Tensor:
    room = held.new_empty((*held.shape[:-2], length, held.shape[-1]))
    room[..., : held.shape[-2], :] = held
    return room


class RoomyCache(DynamicCache):
    """An empty DynamicCache of such layers."""

    def __init__(self) -> None:
        Cache.__init__(self, layer_class_to_replicate=RoomyLayer)
