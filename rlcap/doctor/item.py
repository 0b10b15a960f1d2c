"""One line of what the doctor found."""

from dataclasses import dataclass
from pathlib import Path

OK, LACKING, WRONG = "ok", "lacking", "wrong"


@dataclass(frozen=True)
class Item:
    """One thing that was looked at.

    found: in words, with what mends it. state: OK; LACKING, where something that rlcap can do without is not there;
    WRONG, where rlcap cannot train here.
    """

    name: str
    found: str
    state: str = OK


def shown(path: Path | str) -> str:
    """A path with `~` for the user's home, whose name is nobody's business."""
    home = str(Path.home())
    text = str(path)
    return "~" + text[len(home) :] if text == home or text.startswith(home + "/") else text
