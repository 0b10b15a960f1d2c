"""A rank's part of every batch of a data set."""

import pytest
from torch.utils.data import RandomSampler, SequentialSampler

from rlcap.training.rank_batches import RankBatches


@pytest.mark.parametrize(("rows", "world"), [(16, 2), (11, 2), (9, 4), (13, 3)])
def test_ranks_together_see_every_row_once_an_epoch(rows: int, world: int) -> None:
    ranks = [RankBatches(RandomSampler(range(rows)), 2, rank, world, seed=3) for rank in range(world)]
    orders = []
    for epoch in (0, 1):
        for batches in ranks:
            batches.set_epoch(epoch)
        parts = [list(batches) for batches in ranks]
        assert {len(part) for part in parts} == {len(batches) for batches in ranks} == {-(-rows // (2 * world))}
        steps = [[row for part in step for row in part] for step in zip(*parts, strict=True)]
        assert [len(step) for step in steps[:-1]] == [2 * world] * (len(steps) - 1)
        sizes = [len(part[-1]) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        orders.append([row for step in steps for row in step])
        assert sorted(orders[-1]) == list(range(rows))
    assert orders[0] != orders[1]


def test_the_last_batch_can_be_left_out() -> None:
    batches = RankBatches(SequentialSampler(range(11)), 2, 1, 2, seed=0, drop_last=True)
    assert list(batches) == [[2, 3], [6, 7]]
