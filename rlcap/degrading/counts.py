"""Numbers of things, and one thing that becomes several."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.inflection import plural
from rlcap.degrading.sentence import Sentence, Slot, change

if TYPE_CHECKING:
    from spacy.tokens import Token

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
WORDS = {number: word for word, number in NUMBERS.items()}
PARTS = {"one", "other", "another", "both", "each", "pair", "couple", "twin", "twins"}
MANY = {"group", "people", "several", "crowd", "many", "couple", "pair", "team", "bunch", "two", "three"}
OWNING = {"wearing", "holding", "carrying", "riding", "using"}
PLURAL_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do", "goes": "go", "lies": "lie", "ties": "tie"}


def count_slots(sentence: Sentence) -> Iterator[Slot]:
    """Two to ten of something become some more or fewer, two at least.

    In a paragraph they do so wherever the number is said of the same thing, or of people.
    """
    if PARTS & set(sentence.lower):
        return
    mentions: dict[tuple[str, str], list[Token]] = defaultdict(list)
    for token in sentence.doc:
        if token.lower_ not in NUMBERS or token.dep_ != "nummod" or token.head.tag_ != "NNS":
            continue
        if token.i not in sentence.frozen and token.nbor().tag_ != "CD":
            of = _sort(sentence, token.head) if sentence.is_paragraph else str(token.i)
            mentions[token.lower_, of].append(token)
    for (word, _), found in mentions.items():
        number = NUMBERS[word]
        step = 1 if number < 5 else 2  # nobody sees that nine are ten
        others = [
            WORDS[other]
            for other in range(max(2, number - step - 1), min(10, number + step + 1) + 1)
            if abs(other - number) >= step and not {WORDS[other], str(other)} & sentence.said
        ]
        contexts = [sentence.before(token.nbor().lower_) for token in found]
        drawn = sentence.draw(others, [*others, word], contexts)
        if drawn is not None:
            changes = tuple(change(token, drawn) for token in found)
            yield Slot("count", changes, f"{drawn} {found[0].i}", sentence.weight(word))


def _sort(sentence: Sentence, noun: "Token") -> str:
    concepts = sentence.contrasts.of("noun", noun.lower_)
    is_person = noun.lower_ == "people" or any(concept.kind == "person" for concept in concepts)
    return "people" if is_person else concepts[0].word if concepts else noun.lower_


def more_slots(sentence: Sentence) -> Iterator[Slot]:
    """One thing, the subject, becomes two or three; verbs agree. Not where a pronoun or "a hat" belongs to it."""
    if (
        any(token.tag_ in ("PRP", "PRP$") for token in sentence.doc)
        or MANY & sentence.said
        or PARTS & set(sentence.lower)
    ):
        return
    for token in sentence.doc:
        first = next(iter(token.children), None)
        if (
            token.tag_ != "NN"
            or token.dep_ not in ("nsubj", "ROOT")
            or first is None
            or first.lower_ not in ("a", "an")
        ):
            continue
        many = plural(token.lower_)
        concepts = sentence.contrasts.of("noun", token.lower_)
        if not concepts or sentence.others_say(many) or sentence.mentions(concepts[0].word) > 1 or _has_own(token):
            continue
        changes = _agreeing(token)
        if changes is not None and token.i not in sentence.frozen:
            number = sentence.rng.choice(("two", "three"))
            if not sentence.is_said(number):
                yield Slot("count", (change(first, number), change(token, many), *changes), f"{number} {token.i}", 0.7)


def _has_own(noun: "Token") -> bool:
    """Whether "in a hat", "holding a ball" … says what one of them has, wears or is."""
    for child in noun.children:
        if child.dep_ in ("relcl", "conj", "appos") or (
            child.dep_ == "acl" and any(c.dep_ == "dobj" for c in child.children)
        ):
            return True
        if child.dep_ == "prep" and child.lower_ in ("in", "with") and not child.text[0].isupper():
            return True
    verb = noun.head
    return noun.dep_ == "nsubj" and any(
        c.dep_ in ("attr", "dobj") and _is_one(c) for c in (*verb.children, *_conj_children(verb))
    )


def _conj_children(verb: "Token") -> "list[Token]":
    return [child for other in verb.children if other.dep_ in ("conj", "advcl") for child in other.children]


def _is_one(noun: "Token") -> bool:
    return (
        any(child.lower_ in ("a", "an") for child in noun.children)
        and noun.head.tag_ == "VBG"
        and noun.head.lower_ in OWNING
    )


def _agreeing(noun: "Token") -> list[tuple[int, int, str]] | None:
    """The verbs of a subject made plural; None where their form is not known."""
    if noun.dep_ == "ROOT":
        return []
    changes = []
    verbs = [noun.head, *(child for child in noun.head.children if child.dep_ == "conj" and child.tag_[0] == "V")]
    for verb in verbs:
        if any(child.dep_ == "nsubj" and child.i != noun.i for child in verb.children):
            continue
        finite = [child for child in verb.children if child.dep_ in ("aux", "auxpass")] or [verb]
        for token in finite:
            if token.lower_ in PLURAL_VERBS:
                changes.append(change(token, PLURAL_VERBS[token.lower_]))
            elif token.tag_ == "VBZ":
                lemma = re.sub(r"(?<=ch|sh|ss|zz)es$|(?<=[xo])es$|(?<!s)s$", "", re.sub(r"ies$", "y", token.lower_))
                changes.append(change(token, lemma))
            elif token.tag_ not in ("VBG", "VBD", "VBN", "MD"):
                return None
    return changes
