"""A parsed caption with what is known of its picture, and the places in it where one detail can be changed."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rlcap.data.edits import Change, Edit
from rlcap.degrading.contrasts import Contrasts
from rlcap.degrading.inflection import article, cased_like
from rlcap.degrading.vocabulary import Vocabulary, tokens

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

ENOUGH = 8  # times that a place has to be seen with words of a set before one never seen there counts as odd
SEEN = 2  # times that a form has to be seen where that is a must
SAYS_MUCH = 1000  # captions from which on a word that the data set never uses is not put into it

Context = Callable[[str], int]  # how often the data set says a form in a certain place


@dataclass(frozen=True)
class Slot:
    """A detail that can be changed: all of (start, end, text) at once, in characters of the caption.

    says: the concept that is put in. weight: how often it is drawn against others.
    """

    kind: str
    changes: tuple[tuple[int, int, str], ...]
    says: str
    weight: float = 1.0

    def meets(self, other: "Slot") -> bool:
        """Whether both change the same words, or say the same new thing."""
        if self.says == other.says:
            return True
        return any(a < d and c < b for a, b, _ in self.changes for c, d, _ in other.changes)


@dataclass
class Sentence:
    """What the finders of slots look at. others: the picture's other references."""

    doc: "Doc"
    others: Sequence[str]
    vocabulary: Vocabulary
    contrasts: Contrasts
    rng: random.Random

    @cached_property
    def lower(self) -> list[str]:
        """The words in lower case."""
        return [token.lower_ for token in self.doc]

    @cached_property
    def is_paragraph(self) -> bool:
        """Whether there are several sentences, which tell of one thing in different words."""
        return len({token.sent.start for token in self.doc if token.is_alpha}) > 1

    @cached_property
    def said(self) -> set[str]:
        """All that the caption and the other references say or imply."""
        return self.supported | self.contrasts.said(self.lower)

    @cached_property
    def other_words(self) -> set[str]:
        """The words of the other references."""
        return {word for text in self.others for word in tokens(text)}

    @cached_property
    def supported(self) -> set[str]:
        """All that the other references say or imply."""
        return self.contrasts.said(self.other_words)

    @cached_property
    def frozen(self) -> set[int]:
        """The places of words that mean something else together ("hot dog"), or are part of "a/b"."""
        found: set[int] = set()
        for start in range(len(self.lower)):
            for phrase in self._fixed_by_first.get(self.lower[start], ()):
                if tuple(self.lower[start : start + len(phrase)]) == phrase:
                    found.update(range(start, start + len(phrase)))
            if self.lower[start] in ("/", "-", "&"):
                found.update((start - 1, start + 1))
        return found

    @cached_property
    def _fixed_by_first(self) -> dict[str, list[tuple[str, ...]]]:
        first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in self.contrasts.fixed:
            first.setdefault(phrase[0], []).append(phrase)
        return first

    def is_said(self, concept: str) -> bool:
        """Whether a concept is said of the picture anywhere, and may so be true."""
        return all(word in self.said for word in concept.split())

    def excludes(self, concept: str, other: str) -> bool:
        """Whether `other` may be put in the place of `concept`: it is said nowhere, and no kind of what was there."""
        return not self.is_said(other) and concept not in self.contrasts.names.get(other, ())

    def weight(self, *concepts: str) -> float:
        """Twice as much where another reference says the same: such a detail is sure to be there."""
        return 2.0 if any(concept in self.supported for concept in concepts) else 1.0

    def draw(
        self, forms: Sequence[str], known: Iterable[str], contexts: Sequence[Context], must: Sequence[Context] = ()
    ) -> str | None:
        """One of `forms` that the data set says in all of these places; None where there is none.

        known: the forms of the set that the places are also seen with. A place that is hardly seen with any says
        nothing; the more often a form is seen where it would stand, the more often it is drawn. must: places in which a
        form has to have been seen in any case, where the data set is large enough to tell.
        """
        if self.vocabulary.captions >= SAYS_MUCH:
            forms = [form for form in forms if all(self.vocabulary.words[word] for word in form.split())]
            forms = [form for form in forms if all(place(form) >= SEEN for place in must)]
        if not forms:
            return None
        known = list(known)
        totals = [(context, total) for context in contexts if (total := sum(map(context, known))) >= ENOUGH]
        weights = []
        for form in forms:
            least = 1e9
            for context, total in totals:
                seen = context(form)
                least = 0 if seen < max(1, total // 40) else min(least, seen)
            weights.append(min(least, 1 + self.vocabulary.words[form]) ** 0.5)
        if not any(weights):
            return None
        return self.rng.choices(forms, weights)[0]

    def others_say(self, *words: str) -> bool:
        """Whether another reference has one of these very words."""
        return not self.other_words.isdisjoint(words)

    def mentions(self, concept: str) -> int:
        """How many words of the caption say a concept, whatever part of speech they are."""
        return sum(concept in self.contrasts.says(word) for word in self.lower)

    def next_to(self, before: str) -> Context:
        """How often a form follows a word."""
        return lambda form: self.vocabulary.next[before, form.split(" ", 1)[0]]

    def before(self, after: str) -> Context:
        """How often a form stands right before a word."""
        return lambda form: self.vocabulary.next[form.rsplit(" ", 1)[-1], after]

    def near_after(self, before: str) -> Context:
        """How often a form stands within a few words after a word."""
        return lambda form: self.vocabulary.near[before, form.rsplit(" ", 1)[-1]]

    def near_before(self, after: str) -> Context:
        """How often a form stands within a few words before a word."""
        return lambda form: self.vocabulary.near[form.rsplit(" ", 1)[-1], after]


def change(token: "Token", text: str) -> tuple[int, int, str]:
    """A token replaced by a text with its capitals."""
    return token.idx, token.idx + len(token), cased_like(text, token.text)


def replaced(sentence: "Doc", slots: Iterable[Slot]) -> dict[int, tuple[int, str]]:
    """What slots put into the caption: start -> (end, text), with "a" or "an" before it put right, in order."""
    changes = {start: (end, new) for slot in slots for start, end, new in slot.changes}
    for token in sentence[:-1]:
        follower = token.nbor()
        if token.lower_ in ("a", "an") and follower.idx in changes and token.idx not in changes:
            right = article(changes[follower.idx][1])
            if right != token.lower_:
                changes[token.idx] = (token.idx + len(token), cased_like(right, token.text[0].lower() + "x"))
                if token.text[0].isupper():
                    changes[token.idx] = (token.idx + len(token), right.capitalize())
    return dict(sorted(changes.items()))


def edited(sentence: "Doc", kind: str, before: dict[int, tuple[int, str]], now: dict[int, tuple[int, str]]) -> Edit:
    """The edit from a caption with the texts of `replaced` to the one with those and more, each in its exact place."""
    changes, shift = [], 0
    for start, (end, text) in now.items():
        _, old = before.get(start, (end, sentence.text[start:end]))
        if old != text:
            changes.append(Change(old, text, start + shift))
        shift += len(old) - (end - start)
    return Edit(kind, tuple(changes))
