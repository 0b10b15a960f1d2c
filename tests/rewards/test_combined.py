"""Several rewards as one: the sum that training makes, and captions that none scores."""

import pytest

import rewards
from rewards.combined import Combined
from rewards.reward import as_reward


def long_ones(completions: list[str], **columns: object) -> list[float | None]:
    return [float(len(text)) if len(text) > 1 else None for text in completions]


def wide_ones(completions: list[str], images: list[int], **columns: object) -> list[float | None]:
    return [float(image) if image else None for image in images]


def test_it_sums_what_was_scored() -> None:
    combined = Combined([as_reward(long_ones), as_reward(wide_ones)], [2.0, 0.5])
    assert combined.needs == {"images"}
    completions, images = ["a", "a cat", "a", "cat"], [4, 0, 0, 2]
    assert combined(completions, images=images) == [2.0, 10.0, None, 7.0]
    by_name = rewards.score(combined.rewards, completions, {"images": images})
    with pytest.raises(ValueError, match="none of long_ones, wide_ones scored"):
        rewards.combine(by_name)
    assert Combined([as_reward(long_ones)])(["a cat"]) == [5.0]
    assert combined([], images=[]) == []


def test_weights_are_one_a_reward() -> None:
    with pytest.raises(ValueError, match=r"1 weights for 2 rewards \(long_ones, wide_ones\)"):
        Combined([as_reward(long_ones), as_reward(wide_ones)], [1.0])
