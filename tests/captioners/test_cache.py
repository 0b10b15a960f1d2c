from collections.abc import Callable

import torch
from transformers import DynamicCache

from captioners.cache import ROOM, RoomyCache

HEADS, WIDTH = 2, 4


def append(cache: DynamicCache, rows: int, tokens: int, seed: int) -> list[torch.Tensor]:
    new = torch.randn(2, rows, HEADS, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))
    return list(cache.update(new[0], new[1], 0))


def test_it_holds_what_a_dynamic_cache_holds() -> None:
    ours, theirs = RoomyCache(), DynamicCache()
    rows, pick = 2, torch.tensor([3, 1, 1])
    with torch.no_grad():
        for step in range(ROOM):
            found = [append(cache, rows, 1 + step % 3, step) for cache in (ours, theirs)]
            assert all(a.equal(b) for a, b in zip(*found, strict=True))
            if step == 10:
                for cache in (ours, theirs):
                    cache.batch_repeat_interleave(2)
                rows = 4
            if step == 20:
                for cache in (ours, theirs):
                    cache.batch_select_indices(pick)
                rows = 3
    assert ours.get_seq_length() == theirs.get_seq_length() > ROOM


def test_a_token_is_written_behind_the_others_which_stay_where_they_are() -> None:
    cache = RoomyCache()
    with torch.no_grad():
        append(cache, 2, 5, 0)
        places = {append(cache, 2, 1, step)[0].data_ptr() for step in range(ROOM)}
    assert len(places) == 1


def test_gradients_reach_what_is_in_it() -> None:
    def gradient(new_cache: Callable[[], DynamicCache]) -> torch.Tensor:
        prefix = torch.ones(1, HEADS, 3, WIDTH, requires_grad=True)
        cache = new_cache()
        cache.update(2 * prefix, prefix, 0)
        keys, values = cache.update(torch.ones(1, HEADS, 1, WIDTH), torch.ones(1, HEADS, 1, WIDTH), 0)
        (keys * values).sum().backward()
        assert prefix.grad is not None
        return prefix.grad

    assert gradient(RoomyCache).equal(gradient(DynamicCache))
