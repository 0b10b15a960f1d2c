"""Several rewards as one."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.reward import Reward, describe, opens_lazily
from rewards.score import combine, score


class Combined:
    """Reward: the sum of weight x value over rewards, as training on several of them adds them up.

    weights: one a reward, None: 1 each. Where a reward does not score a caption, it adds nothing; a caption that none
    scored gets None. Raises ValueError for another number of weights, and as `rewards.score` does.
    """

    def __init__(self, rewards: Sequence[Reward], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(rewards) if weights is None else list(weights)
        if len(weights) != len(rewards):
            names = ", ".join(reward.__name__ for reward in rewards)
            raise ValueError(f"{len(weights)} weights for {len(rewards)} rewards ({names}); give one a reward")
        self.rewards = list(rewards)
        self.weights = weights
        self.__name__ = " + ".join(reward.__name__ for reward in rewards)
        self.needs = frozenset(column for reward in rewards for column in reward.needs)
        self.lazy_images = all(opens_lazily(reward) for reward in rewards if "images" in reward.needs)

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """One value a caption."""
        by_name = score(self.rewards, completions, columns)
        scored = [i for i, of_caption in enumerate(zip(*by_name.values(), strict=True)) if set(of_caption) != {None}]
        combined: list[float | None] = [None] * len(completions)
        if scored:
            known = {name: [values[i] for i in scored] for name, values in by_name.items()}
            sums = combine(known, dict(zip(by_name, self.weights, strict=True)))
            for i, value in zip(scored, sums.tolist(), strict=True):
                combined[i] = value
        return combined

    def describe(self) -> Mapping[str, Any]:
        """What determines the score: every reward, and its weight."""
        return {
            "name": self.__name__,
            "rewards": [describe(reward) for reward in self.rewards],
            "weights": dict(zip((reward.__name__ for reward in self.rewards), self.weights, strict=True)),
        }
