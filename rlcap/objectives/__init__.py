"""Objectives: pure functions of a captioner's scores `[B, K, L]`, and of what rewards say of the K captions."""
