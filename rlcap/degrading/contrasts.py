"""The contrast sets of contrasts.yaml: which concepts exclude each other, and which words say them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from rlcap.degrading.inflection import stems

FILE = Path(__file__).with_name("contrasts.yaml")
PARTS_OF_SPEECH = ("noun", "adjective", "verb")


@dataclass(frozen=True)
class Concept:
    """One member of a contrast set: the lemma that replaces others, and its kind of edit and set."""

    word: str
    kind: str
    group: str


@dataclass(frozen=True)
class Relation:
    """What a preposition may become; only before these nouns (words or sets) and after these verbs, where any."""

    to: tuple[str, ...]
    nouns: frozenset[str]
    verbs: frozenset[str]


@dataclass(frozen=True)
class Contrasts:
    """All sets of a part of speech by word, the relations, and what implies what.

    concepts     part of speech -> word -> the concepts that it may be, one a set
    members      (part of speech, set) -> its concepts
    relations    phrase -> what it may become, and where
    names        word -> all first words of concepts that it says or implies, of any part of speech
    mass         nouns that take no article
    plural_only  nouns without a singular
    fixed        phrases of which no word is changed
    vague        nouns without a sort
    """

    concepts: dict[str, dict[str, list[Concept]]]
    members: dict[tuple[str, str], list[Concept]]
    relations: dict[str, Relation]
    names: dict[str, frozenset[str]]
    mass: frozenset[str]
    plural_only: frozenset[str]
    fixed: frozenset[tuple[str, ...]]
    vague: frozenset[str]
    _says: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def of(self, part: str, word: str) -> list[Concept]:
        """The concepts that a lower-case word, in whatever form, may be; one a set."""
        # "Fishing" is no fish, "painted" no paint: nouns have a plural alone, adjectives one form.
        forms = (word,) if part == "adjective" or (part == "noun" and word.endswith(("ing", "ed"))) else stems(word)
        for stem in forms:
            if stem in self.concepts[part]:
                return self.concepts[part][stem]
        return []

    def said(self, words: Iterable[str]) -> set[str]:
        """All that lower-case words say: their stems, the concepts of these, and what those imply."""
        found: set[str] = set()
        for word in words:
            found |= self.says(word)
        return found

    def says(self, word: str) -> frozenset[str]:
        """All that one lower-case word says."""
        if word not in self._says:
            own = set(stems(word))
            self._says[word] = frozenset(own.union(*(self.names.get(stem, ()) for stem in own)))
        return self._says[word]


@cache
def contrasts() -> Contrasts:
    """Read contrasts.yaml, once."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    concepts: dict[str, dict[str, list[Concept]]] = {}
    members: dict[tuple[str, str], list[Concept]] = {}
    names: dict[str, set[str]] = defaultdict(set)
    for part in PARTS_OF_SPEECH:
        by_word = concepts.setdefault(part, defaultdict(list))
        for kind, groups in document[part].items():
            for group, lines in groups.items():
                own = members.setdefault((part, f"{kind}/{group}"), [])
                for line in lines:
                    words = [str(word).replace("_", " ") for word in str(line).split()]
                    concept = Concept(words[0], kind, f"{kind}/{group}")
                    own.append(concept)
                    for word in words:
                        by_word[word].append(concept)
                        names[word].add(words[0])
    implied = {key: set(str(line).split()) for key, line in document["implies"].items()}
    for word in {*names, *implied}:
        for said in {word, *names.get(word, ())}:
            names[word] |= implied.get(said, set())
    assert all(isinstance(phrase, str) for phrase in document["preposition"])  # "on" unquoted is true
    relations = {
        phrase: Relation(tuple(line["to"]), frozenset(line.get("nouns", ())), frozenset(line.get("verbs", ())))
        for phrase, line in document["preposition"].items()
    }
    return Contrasts(
        concepts,
        members,
        relations,
        {word: frozenset(said) for word, said in names.items()},
        frozenset(document["mass"]),
        frozenset(document["plural"]),
        frozenset(tuple(phrase.split()) for phrase in document["fixed"]),
        frozenset(document["vague"]),
    )
