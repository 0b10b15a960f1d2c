"""What was probably meant by a word that is none of the known ones."""

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest, as a remark in brackets with a space before it; "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def require_subcommand(command: str, argv: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError where the first word of the arguments is none of those known, and no flag."""
    if argv and not argv[0].startswith("-") and argv[0] not in known:
        near = did_you_mean(argv[0], known)
        raise ValueError(f"there is no rlcap {command} {argv[0]!r}{near}; there is {' and '.join(known)}")
