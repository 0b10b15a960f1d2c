"""A scorer learned from comparisons: frozen encoders of picture and sentence, and a small network on both."""

from rewards.comparative.reward import Comparative

__all__ = ["Comparative"]
