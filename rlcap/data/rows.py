"""What a reader yields: one picture or clip with the captions that a file gives for it."""

from dataclasses import dataclass, field


@dataclass
class CaptionRow:
    """One picture (a path) or clip (paths of its frames, in order), its captions, and where the file says so.

    Paths are as written in the file; `where` names the place for error messages ("line 12", "images[3]").
    """

    image_id: str
    visual: str | list[str]
    references: list[str]
    split: str
    where: str
    pictures: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.pictures = [self.visual] if isinstance(self.visual, str) else self.visual


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
