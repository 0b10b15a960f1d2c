"""Imported once by the server that commands are forked from: what every run would otherwise wait for."""

from rlcap.evaluation.grammar import HARPER

if HARPER.missing() is None:
    HARPER.errors("a dog")
