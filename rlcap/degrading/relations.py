"""Prepositions and directions turned into ones that exclude them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.contrasts import Relation
from rlcap.degrading.sentence import Sentence, Slot, change
from rlcap.degrading.swaps import NOUN_TAGS

if TYPE_CHECKING:
    from spacy.tokens import Token

DIRECTION_PLACES = {"advmod", "prt", "acomp", "advcl", "dobj", "npadvmod"}  # taggers are unsure of "moves left"
LONGEST = 3  # words of a preposition
MOTIONS = {"move", "go", "walk", "run", "climb", "drive", "ride", "slide", "roll", "fly", "swim", "march", "travel"}
DIRECTIONS = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "forward": "backward",
    "upwards": "downwards",
}
VAGUE_AT_PLACES = {"behind", "in front of"}  # who knows which side of a river is its front
BODY = {"hand", "hands", "head", "shoulder", "shoulders", "arm", "arms", "leg", "legs", "back", "mouth", "neck", "face"}


def relation_slots(sentence: Sentence) -> Iterator[Slot]:
    """A preposition of place or way becomes one that excludes it."""
    taken = 0
    for token in sentence.doc:
        if token.i < taken or token.i in sentence.frozen:
            continue
        for length in range(LONGEST, 0, -1):
            phrase = " ".join(sentence.lower[token.i : token.i + length])
            relation = sentence.contrasts.relations.get(phrase)
            if relation is None or token.i + length > len(sentence.doc):
                continue
            taken = token.i + length
            last = sentence.doc[taken - 1]
            if token.lower_ in ("left", "right") or last.dep_ == "prep":
                yield from _relation(sentence, relation, token, last)
            break
    for token in sentence.doc:
        verb = token.head
        if token.lower_ in DIRECTIONS and token.dep_ in DIRECTION_PLACES and token.i not in sentence.frozen:
            other = DIRECTIONS[token.lower_]
            at_end = token.i + 1 == len(sentence.doc) or sentence.doc[token.i + 1].is_punct
            if at_end and MOTIONS & sentence.contrasts.says(verb.lower_) and other not in sentence.said:
                yield Slot("relation", (change(token, other),), f"{other} of {verb.i}")


def _relation(sentence: Sentence, relation: Relation, first: "Token", last: "Token") -> Iterator[Slot]:
    noun = next((child for child in last.children if child.dep_ == "pobj"), None)
    if noun is None or noun.tag_ not in NOUN_TAGS or noun.lower_ in BODY:
        return
    sets = {concept.group for concept in sentence.contrasts.of("noun", noun.lower_)}
    said = sentence.contrasts.says(noun.lower_)
    if relation.nouns and not relation.nouns & (sets | said):
        return
    if relation.verbs and not relation.verbs & sentence.contrasts.says(last.head.lower_):
        return
    previous = sentence.lower[first.i - 1] if first.i else ""
    if any(child.lower_ == "only" for child in last.children) or previous in ("out", "back", "right", "up", "down"):
        return
    is_place = any(concept.kind == "scene" for concept in sentence.contrasts.of("noun", noun.lower_))
    to = [o for o in relation.to if not (is_place and o in VAGUE_AT_PLACES)]
    others = [o for o in to if not _said_nearby(sentence, o, noun)]
    drawn = sentence.draw(others, others, ())
    if drawn is not None:
        _, _, text = change(first, drawn)
        yield Slot("relation", ((first.idx, last.idx + len(last), text),), f"{drawn} {noun.i}")


def _said_nearby(sentence: Sentence, phrase: str, noun: "Token") -> bool:
    """Whether any reference says the phrase at all: then it may be true of this noun by another name."""
    return any(f" {phrase} " in f" {text.lower()} " for text in (*sentence.others, sentence.doc.text))
