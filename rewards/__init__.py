"""Scorers of captions, called as TRL calls its reward functions."""
