"""What words a data set uses, next to which others, and which its annotators use for the same thing."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[.,;:!?]")
NEAR = 4  # words between which a pair counts as near, the second one included
MOST_CAPTIONS = 200_000  # are counted: beyond that every n-th picture
OFTEN = 3
ALIKE, LIKE = 0.15, 12  # least cosine of words that are of one sort, and how many of them count
MOST_WORDS = 60  # of a picture, the rarest left out, whose pairs are counted


def tokens(text: str) -> list[str]:
    """The lower-case words and the stops of a caption."""
    return _WORD.findall(text.lower())


def _cosine(first: dict[tuple[str, str], float], second: dict[tuple[str, str], float]) -> float:
    if not first or not second:
        return 0.0
    small, large = sorted((first, second), key=len)
    dot = sum(value * large.get(key, 0.0) for key, value in small.items())
    return dot / math.sqrt(sum(v * v for v in first.values()) * sum(v * v for v in second.values()))


class Vocabulary:
    """Counts over all captions of a data set; the same whatever part of it is then worked on.

    words       word -> how often
    next        (word, word) -> how often the second follows at once
    near        (word, word) -> how often the second follows within NEAR words, no stop between
    pictures    word -> in the captions of how many pictures
    objects     tag (NN, NNS) -> words that a parse of some captions finds as objects of verbs or prepositions
    """

    def __init__(self, captions: Iterable[Sequence[str]], total: int) -> None:
        """captions: of each picture; total: how many captions that is."""
        self.words: Counter[str] = Counter()
        self.next: Counter[tuple[str, str]] = Counter()
        self.near: Counter[tuple[str, str]] = Counter()
        self.pictures: Counter[str] = Counter()
        self.together: Counter[tuple[str, str]] = Counter()
        self.objects: dict[str, list[str]] = {}
        self._neighbours: dict[tuple[str, str], list[str]] = {}
        self._beside: dict[str, dict[tuple[str, str], float]] = {}
        self.captions = self.counted = 0
        stride = max(1, -(-total // MOST_CAPTIONS))
        for place, own in enumerate(captions):
            if place % stride:
                continue
            said: Counter[str] = Counter()
            for caption in own:
                said.update(self._count(tokens(caption)))
            self.captions += len(own)
            self.counted += 1
            self.pictures.update(said.keys())
            kept = sorted(word for word, _ in said.most_common(MOST_WORDS))
            self.together.update(combinations(kept, 2))

    def find_objects(self, docs: Iterable["Doc"]) -> None:
        """Fill `objects` from the parses of some captions: words found OFTEN or more."""
        found = Counter(
            (token.tag_, token.lower_)
            for doc in docs
            for token in doc
            if token.dep_ in ("dobj", "pobj") and token.is_alpha
        )
        for tag in ("NN", "NNS"):
            self.objects[tag] = sorted(word for (own, word), count in found.items() if own == tag and count >= OFTEN)

    def neighbours(self, word: str, tag: str) -> list[str]:
        """The `objects` of a tag that stand among the same words as `word`, most alike first; LIKE of them at most.

        Alike: the cosine of what is near them before and after, weighted by positive pointwise mutual information.
        """
        key = (word, tag)
        if key not in self._neighbours:
            own = self._surroundings(word)
            scored = [(_cosine(own, self._surroundings(other)), other) for other in self.objects.get(tag, ()) if own]
            best = sorted(((score, other) for score, other in scored if score >= ALIKE and other != word), reverse=True)
            self._neighbours[key] = [other for _, other in best[:LIKE]]
        return self._neighbours[key]

    def _surroundings(self, word: str) -> dict[tuple[str, str], float]:
        if not self._beside:
            total = sum(self.words.values())
            for (first, second), count in self.near.items():
                weight = math.log(count * total / (self.words[first] * self.words[second] * NEAR))
                if count >= OFTEN and weight > 0:
                    self._beside.setdefault(second, {})["before", first] = weight
                    self._beside.setdefault(first, {})["after", second] = weight
        return self._beside.get(word, {})

    def _count(self, found: list[str]) -> set[str]:
        clause: list[str] = []
        for word in found:
            if not word[0].isalnum():
                clause = []
                continue
            self.words[word] += 1
            if clause:
                self.next[clause[-1], word] += 1
            for before in clause[-NEAR:]:
                self.near[before, word] += 1
            clause.append(word)
        return {word for word in found if word[0].isalnum()}

    def exchanged(self, first: str, second: str) -> float:
        """How much more often than by chance both words are said of one picture: above 1 for synonyms and kinds."""
        pair = (first, second) if first < second else (second, first)
        return self.together[pair] / max(self.expected(first, second), 1e-9)

    def expected(self, first: str, second: str) -> float:
        """How many pictures would have both words by chance."""
        return self.pictures[first] * self.pictures[second] / max(self.counted, 1)


def vocabulary_of(
    references: Iterable[Sequence[str]], parse: "Callable[[list[str]], Iterable[Doc]]", parsed: int = 2000
) -> Vocabulary:
    """The vocabulary of all pictures' references, with `objects` from the parses of `parsed` captions among them."""
    held = list(references)
    total = sum(map(len, held))
    vocabulary = Vocabulary(held, total)
    every = [caption for own in held for caption in own]
    vocabulary.find_objects(parse(every[:: max(1, total // parsed)]))
    return vocabulary
