"""What a reader yields: one picture or clip with the captions that a file gives for it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class CaptionRow:
    """One picture (a path), clip (paths of its frames, in order) or video, its captions, and where the source says so.

    Paths are as written in the source; `where` names the place for error messages ("line 12", "images[3]"). In a
    stream, what is looked at is no path but the content itself, {"bytes", "path"}.
    """

    image_id: str
    visual: Any
    references: list[str]
    split: str
    where: str
    is_video: bool = False
    timestamps: list[float] | None = None  # of the video, where the row says which frames count
    number: int = -1  # of the row in a table that holds the pictures themselves
    more: dict[str, Any] = field(default_factory=dict)  # other keys or columns that a reader was asked for
    keys: tuple[str, ...] = ()  # all that there are, where it was asked for others

    @property
    def kind(self) -> str:
        """The column that holds what is looked at: "image", "frames" or "video"."""
        return "video" if self.is_video else "frames" if isinstance(self.visual, list) else "image"

    @property
    def pictures(self) -> list[str]:
        """The paths of the picture, the frames or the video."""
        return self.visual if isinstance(self.visual, list) else [self.visual]


def text_list(value: object, where: str, key: str) -> list[str]:
    """Return `value` as a list of strings (a lone string becomes a list of one).

    Raises ValueError naming `where` and `key` for anything else.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ValueError(f'{where}: "{key}" must be a text or a list of texts, not {shown(value)}')


def shown(value: object, limit: int = 60) -> str:
    """Return `value` as an error message shows it: its repr, cut at `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
