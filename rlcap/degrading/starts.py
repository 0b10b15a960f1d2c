"""The captions that chains start from: every reference, or several of a picture joined to one longer text."""

import random
import re
from collections.abc import Iterable, Iterator, Sequence

from rlcap.degrading.chain import Start
from rlcap.degrading.inflection import stems
from rlcap.degrading.vocabulary import tokens

EMPTY = {
    *("a", "an", "the", "and", "or", "of", "in", "on", "at", "to", "with", "is", "are", "was", "were", "be", "being"),
    *("his", "her", "its", "their", "he", "she", "it", "they", "this", "that", "there", "some", "one", "someone"),
    *("something", "for", "from", "by", "as", "while", "who", "which", "into"),
}


def starts(
    pictures: Iterable[tuple[str, Sequence[str]]], *, join: int = 1, per_picture: int | None = None, seed: int = 0
) -> Iterator[Start]:
    """Yield the starts of (image_id, references), numbered through; at most `per_picture` of a picture, at random.

    Equal references start once. join: so many references make one text, as sentences: those that share least with what
    the text says already, and none that shares next to nothing with all others (it tells of something else). A picture
    with fewer references gives one text of all.
    """
    row = 0
    for image_id, references in pictures:
        rng = random.Random(f"{seed} {image_id}")
        distinct = {reference.strip().lower(): place for place, reference in reversed(list(enumerate(references)))}
        places = sorted(distinct.values())
        groups = [[place] for place in places] if join == 1 else _groups(references, places, join, rng)
        if per_picture is not None and len(groups) > per_picture:
            groups = [groups[place] for place in sorted(rng.sample(range(len(groups)), per_picture))]
        for group in groups:
            own = [references[place].strip() for place in group]
            caption = own[0] if join == 1 else paragraph(own)
            yield Start(row, image_id, f"{image_id}#{'+'.join(map(str, group))}", caption, tuple(references))
            row += 1


def paragraph(sentences: Sequence[str]) -> str:
    """The sentences as one text, each with a full stop unless it has an end of its own."""
    bare = (re.sub(r"\s*\.\s*$", "", sentence.strip()) for sentence in sentences)
    return " ".join(sentence if sentence.endswith(("!", "?")) else f"{sentence}." for sentence in bare if sentence)


def _groups(references: Sequence[str], places: list[int], join: int, rng: random.Random) -> list[list[int]]:
    said = {place: _content(references[place]) for place in places}
    left = _agreeing(said, join)
    rng.shuffle(left)
    groups: list[list[int]] = []
    while len(left) >= join or (left and not groups):
        group = [left.pop(0)]
        while left and len(group) < join:
            told = set().union(*(said[place] for place in group))
            best = max(range(len(left)), key=lambda at: len(said[left[at]] - told))
            group.append(left.pop(best))
        groups.append(group)
    return groups


def _agreeing(said: dict[int, set[str]], join: int) -> list[int]:
    """The references but for the quarter that agrees least with the others, where there are enough of them."""
    if len(said) < 2 * join or len(said) < 4:
        return list(said)
    agreement = {
        place: sum(len(own & other) for key, other in said.items() if key != place) / max(1, len(own))
        for place, own in said.items()
    }
    kept = sorted(said, key=lambda place: -agreement[place])[: len(said) - len(said) // 4]
    return sorted(kept)


def _content(text: str) -> set[str]:
    return {stems(word)[-1] for word in tokens(text) if word[0].isalnum() and word not in EMPTY}
