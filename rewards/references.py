"""The references of a batch: checked, and indexed once per picture."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from rewards.completions import column

Index = TypeVar("Index")


def checked_references(
    references: Sequence[Any] | None, image_id: Sequence[Any] | None, length: int, reward: str
) -> list[tuple[Hashable, Sequence[str]]]:
    """One (picture, its references) for each of `length` captions; the picture is its image_id, else its references.

    Raises ValueError naming the picture whose references are missing, empty, different
    from row to row, or one string instead of a list.
    """
    lists = column(references, "references", length, reward)
    ids = column(image_id, "image_id", length, reward) if image_id is not None else [None] * length
    pairs: list[tuple[Hashable, Sequence[str]]] = []
    first: dict[Hashable, Sequence[str]] = {}
    checked: set[int] = set()  # the K captions of a picture mostly share one list object
    for i, own in zip(ids, lists, strict=True):
        if id(own) not in checked:
            _check(own, i, reward)
            checked.add(id(own))
        key = tuple(own) if i is None else i
        known = first.setdefault(key, own)
        if known is not own and list(known) != list(own):
            raise ValueError(f"{reward}: the picture {key!r} occurs with different references in one batch")
        pairs.append((key, own))
    return pairs


def _check(references: Any, image_id: Any, reward: str) -> None:
    where = "a picture" if image_id is None else f"the picture {image_id!r}"
    if isinstance(references, str) or not isinstance(references, Sequence | None):
        raise ValueError(f"{reward}: the references of {where} are {references!r}; give a list of strings")
    if not references:
        raise ValueError(
            f"{reward}: {where} has no references to be scored against; leave it out of the data, or take a reward "
            "that needs none"
        )
    for reference in references:
        if not isinstance(reference, str):
            raise ValueError(f"{reward}: the references of {where} contain {reference!r}; give a list of strings")


class ReferenceIndices(Generic[Index]):
    """Keeps what was computed from a picture's references, for the `capacity` pictures used last.

    `built` counts the computations. References that changed under the same key are computed anew.
    """

    def __init__(self, build: Callable[[Sequence[str]], Index], capacity: int, reward: str) -> None:
        if capacity < 1:
            raise ValueError(f"{reward}: max_indexed_images is {capacity}; give at least 1")
        self.built = 0
        self._build = build
        self._capacity = capacity
        self._kept: OrderedDict[Hashable, tuple[Sequence[str], Index]] = OrderedDict()

    def get(self, key: Hashable, references: Sequence[str]) -> Index:
        """The index of this picture's references."""
        kept = self._kept.get(key)
        if kept is not None and (kept[0] is references or list(kept[0]) == list(references)):
            self._kept.move_to_end(key)
            return kept[1]
        index = self._build(references)
        self.built += 1
        self._kept[key] = (references, index)
        self._kept.move_to_end(key)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return index
