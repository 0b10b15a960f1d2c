"""What fails outside of rlcap, in the middle of a run."""


class Failure(RuntimeError):
    """A disk, a mount or a server that a run needs has failed; the message says which, and what to do.

    The command line shows the message without a traceback, and ends with code 1: the same command can go on later.
    """
