"""Scorers of captions, called as TRL calls its reward functions.

reward(completions, *, references=None, image_id=None, finished=None, **columns) -> list[float | None]
"""

from rewards.loading import BUILT_IN, load
from rewards.reward import Reward, describe
from rewards.score import combine, score

__all__ = ["BUILT_IN", "Reward", "combine", "describe", "load", "score"]
