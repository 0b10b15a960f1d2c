"""What a degrader is given and makes: a caption to start from, edits, and a chain of captions, each worse by one."""

from dataclasses import dataclass, field
from typing import Any

from rlcap.data.edits import Edit


@dataclass(frozen=True)
class Start:
    """A caption that a chain starts from.

    row: its number among all; it and the seed are all that chance depends on. others: what else is known to be true of
    the picture: its references.
    """

    row: int
    image_id: str
    source: str
    caption: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chain:
    """Captions best first, and the edits between them; `failures` counts what was refused on the way, or cut
    the chain short, by reason."""

    captions: tuple[str, ...]
    edits: tuple[Edit, ...]
    failures: dict[str, int] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """The chain as `load_chains` reads it."""
        return {"captions": list(self.captions), "edits": [edit.as_json() for edit in self.edits]}
