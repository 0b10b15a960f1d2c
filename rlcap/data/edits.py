"""Edits between two captions of a chain: which words were replaced, by what, and where."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

ARTICLES = {"a", "an"}  # they follow the detail, though they stand before it
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Change:
    """`before` stood at character `at` of the previous caption, where now `after` stands."""

    before: str
    after: str
    at: int

    @property
    def end(self) -> int:
        """The character after `before`."""
        return self.at + len(self.before)


@dataclass(frozen=True)
class Edit:
    """One detail changed, in every place that says it: changes in the order of the previous caption, one or more."""

    kind: str
    changes: tuple[Change, ...]

    def applied(self, caption: str) -> str:
        """The caption after this edit; ValueError where a `before` does not stand at its place."""
        for change in reversed(self.changes):
            if caption[change.at : change.end] != change.before:
                raise ValueError(f"{change.before!r} does not stand at {change.at} of {caption!r}")
            caption = caption[: change.at] + change.after + caption[change.end :]
        return caption

    def as_json(self) -> dict[str, Any]:
        """The edit as it stands in a file of chains: the first change that is no "a" to "an", and all of them."""
        said = next((own for own in self.changes if not {own.before.lower(), own.after.lower()} <= ARTICLES), None)
        return {"kind": self.kind, **vars(said or self.changes[0]), "changes": [vars(own) for own in self.changes]}


def words(text: str) -> list[str]:
    """The words and signs of a text."""
    return _WORD.findall(text)


def same(first: str, second: str) -> bool:
    """Whether two texts have the same words, whatever their case, spaces and signs."""
    plain = [[word.lower() for word in words(text) if word[0].isalnum()] for text in (first, second)]
    return plain[0] == plain[1]


def edit_between(first: str, second: str, kind: str) -> Edit:
    """The edit, of whole words, that makes `second` of `first`: a change for every stretch of words that differs.

    Where words are only added or taken away, the change takes in the word before (or, at the start, after) as well, so
    that neither side is empty. Raises ValueError for equal texts.
    """
    if first == second:
        raise ValueError(f"nothing differs: {first!r}")
    ours, theirs = (list(_WORD.finditer(text)) for text in (first, second))
    old, new = ([word[0] for word in found] for found in (ours, theirs))
    changes = []
    for a, b, c, d in _stretches(old, new):
        start, their_start = ours[a].start(), theirs[c].start()
        changes.append(Change(first[start : ours[b - 1].end()], second[their_start : theirs[d - 1].end()], start))
    edit = Edit(kind, tuple(changes))
    # Signs and spaces may differ outside of the words (a full stop put right): then all of it is the edit.
    return edit if changes and edit.applied(first) == second else Edit(kind, (Change(first, second, 0),))


def _stretches(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Places `a` to `b` of the old words that became `c` to `d` of the new ones, none of them empty."""
    found: list[tuple[int, int, int, int]] = []
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        if (a == b or c == d) and a > 0 and c > 0:
            a, c = a - 1, c - 1
        elif (a == b or c == d) and b < len(old) and d < len(new):
            b, d = b + 1, d + 1
        elif a == b or c == d:
            return []  # one of the texts has no words
        if found and a <= found[-1][1]:
            first = found.pop()
            a, c = first[0], first[2]
        found.append((a, b, c, d))
    return [_trimmed(old, new, *stretch) for stretch in found]


def _trimmed(old: Sequence[str], new: Sequence[str], a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    """The stretch without equal words at its ends: some that were taken in are not needed after all."""
    while min(b - a, d - c) > 1 and old[a] == new[c]:
        a, c = a + 1, c + 1
    while min(b - a, d - c) > 1 and old[b - 1] == new[d - 1]:
        b, d = b - 1, d - 1
    return a, b, c, d
