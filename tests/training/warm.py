"""Imported once by the server that commands are forked from: what every run would otherwise wait for."""

from rlcap.evaluation.grammar import harper_error_rate, harper_installed

if harper_installed():
    harper_error_rate(["a dog"])
