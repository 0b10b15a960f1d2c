"""Whose an error is: the user's, who has asked for what cannot be, or the run's, which was under way."""

from collections.abc import Iterator
from contextlib import contextmanager

OF_THE_USER = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError)
"""What is the user's error before a training is under way."""

_UNDER_WAY = "The training was under way: the same command goes on from its last checkpoint, or anew where it has none."


class Failure(RuntimeError):
    """What ends a run in its middle and can be told: a disk or a server that fails, pictures that cannot be read.

    The command line shows the message without a traceback, and ends with code 1: the same command can go on later.
    """


@contextmanager
def under_way() -> Iterator[None]:
    """Around a training, which begins when all that a user has asked for has been looked at.

    An error that leaves it is no mistake in the recipe, even where it is of a kind that else is, and is noted as such.
    """
    try:
        yield
    except OF_THE_USER as error:
        if not was_under_way(error):
            error.add_note(_UNDER_WAY)
        raise


def was_under_way(error: BaseException) -> bool:
    """Whether an error has left a block of `under_way`."""
    return _UNDER_WAY in getattr(error, "__notes__", ())
