"""Prepositions, directions, numbers of things, and what comes first."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.contrasts import Relation
from rlcap.degrading.inflection import plural
from rlcap.degrading.sentence import Sentence, Slot, change
from rlcap.degrading.swaps import NOUN_TAGS

if TYPE_CHECKING:
    from spacy.tokens import Token

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
WORDS = {number: word for word, number in NUMBERS.items()}
PARTS = {"one", "other", "another", "both", "each", "pair", "couple", "twin", "twins"}
MANY = {"group", "people", "several", "crowd", "many", "couple", "pair", "team", "bunch", "two", "three"}
OWNING = {"wearing", "holding", "carrying", "riding", "using"}
PLURAL_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do", "goes": "go", "lies": "lie", "ties": "tie"}
LONGEST = 3  # words of a preposition
MOTIONS = {"move", "go", "walk", "run", "climb", "drive", "ride", "slide", "roll", "fly", "swim", "march", "travel"}
DIRECTIONS = {"left": "right", "right": "left", "up": "down", "down": "up", "forward": "backward", "upwards": "downwards"}
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
        if token.lower_ in DIRECTIONS and token.dep_ in ("advmod", "prt") and token.i not in sentence.frozen:
            other = DIRECTIONS[token.lower_]
            last = token.i + 1 == len(sentence.doc) or sentence.doc[token.i + 1].is_punct
            if last and MOTIONS & sentence.contrasts.says(verb.lower_) and other not in sentence.said:
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
    others = [o for o in relation.to if not _said_nearby(sentence, o, noun)]
    drawn = sentence.draw(others, others, ())
    if drawn is not None:
        _, _, text = change(first, drawn)
        yield Slot("relation", ((first.idx, last.idx + len(last), text),), f"{drawn} {noun.i}")


def _said_nearby(sentence: Sentence, phrase: str, noun: "Token") -> bool:
    """Whether any reference says the phrase at all: then it may be true of this noun by another name."""
    return any(f" {phrase} " in f" {text.lower()} " for text in (*sentence.others, sentence.doc.text))


def count_slots(sentence: Sentence) -> Iterator[Slot]:
    """Two to ten of something become some more or fewer, two at least."""
    if PARTS & set(sentence.lower):
        return
    for token in sentence.doc:
        number = NUMBERS.get(token.lower_)
        if number is None or token.dep_ != "nummod" or token.head.tag_ != "NNS" or token.i in sentence.frozen:
            continue
        if token.i + 1 < len(sentence.doc) and token.nbor().tag_ == "CD":
            continue
        step = 1 if number < 5 else 2  # nobody sees that nine are ten
        others = [
            WORDS[other]
            for other in range(max(2, number - step - 1), min(10, number + step + 1) + 1)
            if abs(other - number) >= step and not {WORDS[other], str(other)} & sentence.said
        ]
        drawn = sentence.draw(others, [*others, token.lower_], [sentence.before(token.nbor().lower_)])
        if drawn is not None:
            yield Slot("count", (change(token, drawn),), f"{drawn} {token.head.i}", sentence.weight(token.lower_))


def more_slots(sentence: Sentence) -> Iterator[Slot]:
    """One thing, the subject, becomes two or three; verbs agree. Not where a pronoun or "a hat" belongs to it."""
    if any(token.tag_ in ("PRP", "PRP$") for token in sentence.doc) or MANY & sentence.said or PARTS & set(sentence.lower):
        return
    for token in sentence.doc:
        first = next(iter(token.children), None)
        if token.tag_ != "NN" or token.dep_ not in ("nsubj", "ROOT") or first is None or first.lower_ not in ("a", "an"):
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
        if child.dep_ in ("relcl", "conj", "appos") or (child.dep_ == "acl" and any(c.dep_ == "dobj" for c in child.children)):
            return True
        if child.dep_ == "prep" and child.lower_ in ("in", "with") and not child.text[0].isupper():
            return True
    verb = noun.head
    return noun.dep_ == "nsubj" and any(c.dep_ in ("attr", "dobj") and _is_one(c) for c in (*verb.children, *_conj_children(verb)))


def _conj_children(verb: "Token") -> "list[Token]":
    return [child for other in verb.children if other.dep_ in ("conj", "advcl") for child in other.children]


def _is_one(noun: "Token") -> bool:
    return any(child.lower_ in ("a", "an") for child in noun.children) and noun.head.tag_ == "VBG" and noun.head.lower_ in OWNING


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


def order_slots(sentence: Sentence) -> Iterator[Slot]:
    """What happens "before" happens "after", and what is done "and then" is done first."""
    for token in sentence.doc:
        other = {"before": "after", "after": "before"}.get(token.lower_)
        if other and (token.dep_ == "mark" or any(child.dep_ == "pcomp" for child in token.children)):
            if sentence.lower[token.i - 1 : token.i] != ["right"] and other not in sentence.said:
                yield Slot("order", (change(token, other),), f"{other} {token.i}", 2.0)
        if token.lower_ == "then" and token.i >= 2:
            slot = _swapped(sentence, token)
            if slot is not None:
                yield slot


def _swapped(sentence: Sentence, then: "Token") -> Slot | None:
    """ "(and) then" between two verbs of one form: what is said before and after it change places."""
    second = then.head if then.head.i > then.i else None
    first = None if second is None else second.head
    if second is None or first is None or second.dep_ != "conj" or first.tag_ != second.tag_ or first.tag_[0] != "V":
        return None
    doc = sentence.doc
    joint = then.i
    while joint > 0 and doc[joint - 1].lower_ in ("and", ","):
        joint -= 1
    end = then.sent.end
    while end > then.i and doc[end - 1].is_punct:
        end -= 1
    if not first.i < joint or second.i != then.i + 1 or end <= second.i:
        return None
    early, late = doc[first.i : joint], doc[second.i : end]
    if any(token.tag_ in ("PRP", "PRP$", "WDT") for token in late) or early.text.lower() == late.text.lower():
        return None
    between = doc.text[early.end_char : late.start_char]
    text = f"{late.text}{between}{early.text}"
    return Slot("order", ((early.start_char, late.end_char, text),), f"then {then.i}", 2.0)
