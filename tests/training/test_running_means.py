"""Means and seeds that a resume does not change."""

import json

import torch

from rlcap.training.randomness import generator_of, seed_of
from rlcap.training.running_means import RunningMeans


def test_means_are_weighted_by_what_was_counted_over_ranks() -> None:
    first, second = RunningMeans(), RunningMeans()
    first.add("loss", 6.0, 3)
    first.add("loss", 1.0, 1)
    second.add("loss", 13.0, 6)
    second.add("kl", 0.5)
    second.add("nothing", 0.0, 0)
    assert first.drain([first.state(), second.state()]) == {"kl": 0.5, "loss": 2.0}
    assert first.drain([first.state()]) == {}


def test_a_saved_state_goes_on_to_the_same_bits() -> None:
    values = torch.rand(40, dtype=torch.float64).tolist()
    whole, halves = RunningMeans(), RunningMeans()
    for index, value in enumerate(values):
        whole.add("loss", value, 3)
        halves.add("loss", value, 3)
        if index == 17:
            saved = json.loads(json.dumps(halves.state()))
            halves = RunningMeans()
            halves.restore(saved)
    assert whole.drain([whole.state()]) == halves.drain([halves.state()])


def test_seeds_depend_on_all_of_the_place_and_on_nothing_else() -> None:
    places = [
        (0, step, micro, rank, purpose) for step in range(3) for micro in (0, 1) for rank in (0, 1) for purpose in "ab"
    ]
    seeds = [seed_of(*place) for place in places]
    assert len(set(seeds)) == len(places)
    torch.rand(5)
    assert [seed_of(*place) for place in places] == seeds
    assert seed_of(1, 11) != seed_of(11, 1)
    assert torch.rand(3, generator=generator_of("cpu", 1, 2)).equal(torch.rand(3, generator=generator_of("cpu", 1, 2)))
    assert all(0 <= seed < 2**63 for seed in seeds)
