"""What a degrader is given and makes: a caption to start from, edits, and a chain of captions, each worse by one."""

import re
from dataclasses import dataclass, field
from typing import Any

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


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
class Edit:
    """One detail changed: `before` stood at character `at` of the previous caption, where now `after` stands."""

    kind: str
    before: str
    after: str
    at: int

    def applied(self, caption: str) -> str:
        """The caption after this edit; ValueError where `before` does not stand at its place."""
        end = self.at + len(self.before)
        if caption[self.at : end] != self.before:
            raise ValueError(f"{self.before!r} does not stand at {self.at} of {caption!r}")
        return caption[: self.at] + self.after + caption[end:]


@dataclass(frozen=True)
class Chain:
    """Captions best first, and the edits between them; `failures` counts what was refused on the way, by reason."""

    captions: tuple[str, ...]
    edits: tuple[Edit, ...]
    failures: dict[str, int] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """The chain as `load_chains` reads it."""
        return {"captions": list(self.captions), "edits": [vars(edit) for edit in self.edits]}


def words(text: str) -> list[str]:
    """The words and signs of a text."""
    return _WORD.findall(text)


def same(first: str, second: str) -> bool:
    """Whether two texts have the same words, whatever their case, spaces and signs."""
    plain = [[word.lower() for word in words(text) if word[0].isalnum()] for text in (first, second)]
    return plain[0] == plain[1]


def edit_between(first: str, second: str, kind: str) -> Edit:
    """The edit, of whole words, that makes `second` of `first`: the least span with all that differs in it.

    Where words are only added or taken away, the span takes in the word before (or, at the start, after) as well, so
    that neither side is empty. Raises ValueError for equal texts.
    """
    if first == second:
        raise ValueError(f"nothing differs: {first!r}")
    ours, theirs = (list(_WORD.finditer(text)) for text in (first, second))
    left = 0
    while left < min(len(ours), len(theirs)) and ours[left][0] == theirs[left][0]:
        left += 1
    right = 0
    while right < min(len(ours), len(theirs)) - left and ours[-1 - right][0] == theirs[-1 - right][0]:
        right += 1
    if left + right >= min(len(ours), len(theirs)):
        if left:
            left -= 1
        elif right:
            right -= 1
    spans = []
    for text, found in ((first, ours), (second, theirs)):
        changed = found[left : len(found) - right]
        spans.append((changed[0].start(), changed[-1].end()) if changed else (0, len(text)))
    (start, end), (their_start, their_end) = spans
    edit = Edit(kind, first[start:end], second[their_start:their_end], start)
    # Signs and spaces may differ outside of the words (a full stop put right): then all of it is the edit.
    return edit if edit.applied(first) == second else Edit(kind, first, second, 0)
