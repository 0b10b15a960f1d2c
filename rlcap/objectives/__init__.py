"""Objectives: pure functions of a captioner's scores `[B, K, L]`, and of what rewards or chains say of the K captions."""
