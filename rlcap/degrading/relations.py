"""Prepositions and directions turned into ones that exclude them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcap.degrading.contrasts import Relation
from rlcap.degrading.sentence import Sentence, Slot, change
from rlcap.degrading.swaps import NOUN_TAGS

if TYPE_CHECKING:
    from spacy.tokens import Token

DIRECTION_PLACES = {"advmod", "prt", "acomp", "advcl", "dobj", "npadvmod"}  # taggers are unsure of "moves left"
LONGEST = 3  # words of a preposition
NEAR = 4  # words from a preposition to its noun
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


@dataclass(frozen=True)
class _Mention:
    """A preposition of one word or more, from `first` to `last`, and the noun behind it."""

    phrase: str
    first: "Token"
    last: "Token"
    noun: "Token"


def relation_slots(sentence: Sentence) -> Iterator[Slot]:
    """A preposition of place or way, wherever the caption says it of a noun, becomes one that excludes it."""
    mentions: dict[str, list[_Mention]] = defaultdict(list)
    for mention in _mentions(sentence):
        mentions[mention.noun.lower_].append(mention)
    for of_noun in mentions.values():
        # "in a pool", then "into the pool": one of them changed alone would contradict the other.
        if len({mention.phrase for mention in of_noun}) == 1 and len(of_noun) == _times_said(sentence, of_noun[0]):
            yield from _relation(sentence, of_noun)
    for token in sentence.doc:
        verb = token.head
        if token.lower_ in DIRECTIONS and token.dep_ in DIRECTION_PLACES and token.i not in sentence.frozen:
            other = DIRECTIONS[token.lower_]
            at_end = token.i + 1 == len(sentence.doc) or sentence.doc[token.i + 1].is_punct
            if at_end and MOTIONS & sentence.contrasts.says(verb.lower_) and other not in sentence.said:
                yield Slot("relation", (change(token, other),), f"{other} of {verb.i}")


def _mentions(sentence: Sentence) -> Iterator[_Mention]:
    taken = 0
    for token in sentence.doc:
        if token.i < taken or token.i in sentence.frozen:
            continue
        for length in range(LONGEST, 0, -1):
            phrase = " ".join(sentence.lower[token.i : token.i + length])
            if phrase not in sentence.contrasts.relations or token.i + length > len(sentence.doc):
                continue
            taken = token.i + length
            last = sentence.doc[taken - 1]
            noun = next((child for child in last.children if child.dep_ == "pobj"), None)
            if noun is not None and (token.lower_ in ("left", "right") or last.dep_ == "prep"):
                yield _Mention(phrase, token, last, noun)
            break


def _times_said(sentence: Sentence, mention: _Mention) -> int:
    """How often the words of a phrase stand shortly before its noun, whatever the parser makes of them."""
    words = mention.phrase.split()
    ends = (i + len(words) for i in range(len(sentence.lower)) if sentence.lower[i : i + len(words)] == words)
    return sum(mention.noun.lower_ in sentence.lower[end : end + NEAR] for end in ends)


def _relation(sentence: Sentence, mentions: Sequence[_Mention]) -> Iterator[Slot]:
    noun, phrase = mentions[0].noun, mentions[0].phrase
    relation = sentence.contrasts.relations[phrase]
    sets = {concept.group for concept in sentence.contrasts.of("noun", noun.lower_)}
    if relation.nouns and not relation.nouns & (sets | sentence.contrasts.says(noun.lower_)):
        return
    if not all(_may_change(sentence, relation, mention) for mention in mentions):
        return
    is_place = any(concept.kind == "scene" for concept in sentence.contrasts.of("noun", noun.lower_))
    to = [o for o in relation.to if not (is_place and o in VAGUE_AT_PLACES)]
    others = [o for o in to if not _said_nearby(sentence, o, noun)]
    drawn = sentence.draw(others, others, ())
    if drawn is not None:
        changes = tuple((m.first.idx, m.last.idx + len(m.last), change(m.first, drawn)[2]) for m in mentions)
        yield Slot("relation", changes, f"{drawn} {noun.lower_}")


def _may_change(sentence: Sentence, relation: Relation, mention: _Mention) -> bool:
    if mention.noun.tag_ not in NOUN_TAGS or mention.noun.lower_ in BODY:
        return False
    if relation.verbs and not relation.verbs & sentence.contrasts.says(mention.last.head.lower_):
        return False
    previous = sentence.lower[mention.first.i - 1] if mention.first.i else ""
    follows = previous in ("out", "back", "right", "up", "down")
    return not follows and all(child.lower_ != "only" for child in mention.last.children)


def _said_nearby(sentence: Sentence, phrase: str, noun: "Token") -> bool:
    """Whether any reference says the phrase at all: then it may be true of this noun by another name."""
    return any(f" {phrase} " in f" {text.lower()} " for text in (*sentence.others, sentence.doc.text))
