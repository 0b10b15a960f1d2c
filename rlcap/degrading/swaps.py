"""Nouns, adjectives and verbs replaced by another concept of their contrast set, in the same form."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.contrasts import Concept
from rlcap.degrading.inflection import plural, verb_form
from rlcap.degrading.people import GENDER, SAME_AGE, disputed, pronoun_changes, swaps_gender
from rlcap.degrading.sentence import Context, Sentence, Slot, change

if TYPE_CHECKING:
    from spacy.tokens import Token

NOUN_TAGS = ("NN", "NNS")
NOUN_PLACES = {"nsubj", "nsubjpass", "dobj", "pobj", "conj", "ROOT", "attr", "appos", "compound", "nmod", "dative"}
ADJECTIVE_PLACES = {"amod", "acomp", "conj", "oprd", "compound", "nmod", "pobj"}
VERB_TAGS = ("VB", "VBP", "VBZ", "VBG", "VBD")
VERB_PLACES = {"ROOT", "acl", "advcl", "conj", "relcl", "ccomp", "xcomp", "pcomp"}
WITHOUT_OBJECT = {"posture", "moves", "water", "sport", "mouth", "face", "rest"}
FREE = {"attribute/colours", "attribute/sizes"}  # sets that go with nearly everything
WHERE = ("in", "on", "at")
PICTURES = {"photo", "photograph", "picture", "video", "image", "film", "footage", "clip", "movie"}
DETERMINERS = {"a", "an"}
DEFINITE = {"the", "this", "that", "his", "her", "its", "their"}
UNCLAD = {"shirtless", "topless", "bikini", "naked", "nude", "pregnant", "bra", "bearded", "beard"}


def noun_slots(sentence: Sentence) -> Iterator[Slot]:
    """A noun, wherever the caption says it, becomes another one of its set."""
    mentions: dict[Concept, list[Token]] = defaultdict(list)
    for token in sentence.doc:
        if token.tag_ in NOUN_TAGS and token.dep_ in NOUN_PLACES and token.i not in sentence.frozen:
            for concept in sentence.contrasts.of("noun", token.lower_):
                mentions[concept].append(token)
    for concept, every in mentions.items():
        if (sentence.is_paragraph or concept.kind == "person") and sentence.mentions(concept.word) > len(every):
            continue  # also said by a word that would not change: "two children, a boy and a girl"
        found = _of_one_thing(sentence, every)
        if not found or (concept.word in GENDER and len(found) < len(every) and _has_pronouns(sentence)):
            continue
        drawn = _other_noun(sentence, concept, found)
        if drawn is not None:
            changes = [change(token, _numbered(sentence, drawn.word, token)) for token in found]
            if concept.word in GENDER:
                pronouns = pronoun_changes(sentence, concept.word, drawn.word, found)
                if pronouns is None:
                    continue
                changes += pronouns
            yield Slot(concept.kind, tuple(changes), drawn.word, sentence.weight(concept.word))


def _of_one_thing(sentence: Sentence, mentions: "list[Token]") -> "list[Token]":
    """The mentions that change together: "a dog … the dog" is one dog, "a dog … a dog" are two, of which one changes.

    Several sentences, each with "a dog", speak of one dog; none where they also tell two dogs apart.
    """
    if len(mentions) == 1:
        return mentions
    if any(child.lower_ in ("another", "other") for token in mentions for child in token.children):
        return []  # "a dog chases another dog"
    new = [token for token in mentions if not any(child.lower_ in DEFINITE for child in token.children)]
    sentences = {token.sent.start for token in mentions}
    if len(new) < 2 or len({token.sent.start for token in new}) == len(new):
        return mentions
    return [sentence.rng.choice(new)] if len(sentences) == 1 else []


def _has_pronouns(sentence: Sentence) -> bool:
    return any(token.tag_ in ("PRP", "PRP$") for token in sentence.doc)


def _other_noun(sentence: Sentence, concept: Concept, found: "list[Token]") -> Concept | None:
    members = [other for other in sentence.contrasts.members["noun", concept.group] if other != concept]
    if concept.word in GENDER:
        if sentence.said & UNCLAD or disputed(sentence, concept.word):
            return None
        members = [other for other in members if swaps_gender(concept.word, other.word)]
        if any(_has_age(sentence, token) for token in found):  # "an older man" becomes no girl
            members = [other for other in members if SAME_AGE.get(concept.word) == other.word]
    members = [
        o for o in members if sentence.excludes(concept.word, o.word) and all(_fits(sentence, o.word, t) for t in found)
    ]
    # Places are counted with the form of the first mention.
    forms = {_numbered(sentence, other.word, found[0]): other for other in members}
    contexts = [context for token in found for context in _noun_contexts(sentence, token)]
    must = [place for token in found for place in _noun_musts(sentence, token, concept)]
    drawn = sentence.draw(list(forms), [*forms, found[0].lower_], contexts, must)
    return None if drawn is None else forms[drawn]


def _has_age(sentence: Sentence, noun: "Token") -> bool:
    near = (child for child in noun.children if child.dep_ == "amod")
    return any(c.group == "attribute/ages" for word in near for c in sentence.contrasts.of("adjective", word.lower_))


def _noun_musts(sentence: Sentence, token: "Token", concept: Concept) -> list[Context]:
    """Places that decide: beside the other half of a compound, after the preposition of a place, without an article."""
    if token.dep_ in ("compound", "nmod") and token.i + 1 < len(token.doc):
        return [sentence.before(token.nbor().lower_)]
    places = []
    before = token.nbor(-1) if token.i else None
    if before is not None and before.head.i == token.i and before.dep_ in ("compound", "nmod"):
        places.append(sentence.next_to(before.lower_))
    if (
        before is not None
        and before.tag_ == "IN"
        and token.tag_ == "NN"
        and token.lower_ not in sentence.contrasts.mass
    ):
        places.append(sentence.next_to(before.lower_))
    if concept.kind == "scene" and token.dep_ == "pobj":
        places.append(_usual_after(sentence, token.head.lower_))
    return places


def _usual_after(sentence: Sentence, preposition: str) -> Context:
    """How often a place is said with a preposition; not where others are usual: "in the park", but "on the beach"."""

    def seen(form: str) -> int:
        count = sentence.near_after(preposition)(form)
        usual = max(sentence.near_after(other)(form) for other in WHERE)
        return 0 if preposition in WHERE and count * 3 < usual else count

    return seen


def _numbered(sentence: Sentence, lemma: str, token: "Token") -> str:
    return plural(lemma) if token.tag_ == "NNS" and lemma not in sentence.contrasts.plural_only else lemma


def _fits(sentence: Sentence, lemma: str, token: "Token") -> bool:
    """Whether a noun can stand in the place of another: both plural alone or not, with an article or not."""
    sets = sentence.contrasts
    is_plural = token.tag_ == "NNS" or token.lower_ in sets.plural_only
    if lemma in sets.plural_only:
        return is_plural
    if token.lower_ in sets.plural_only:
        return False
    if lemma in sets.mass:
        return not is_plural and not any(child.lower_ in DETERMINERS for child in token.children)
    if is_plural or token.dep_ in ("compound", "nmod"):
        return True
    bare = not any(child.dep_ in ("det", "poss", "nummod") for child in token.children)
    return not bare or token.lower_ not in sets.mass


def _noun_contexts(sentence: Sentence, token: "Token") -> list[Context]:
    contexts = []
    if token.i and (before := token.nbor(-1)).tag_ in ("JJ", "NN", "VBG", "VBN", "PRP$"):
        contexts.append(sentence.next_to(before.lower_))
    if token.dep_ == "pobj":
        contexts.append(sentence.near_after(token.head.lower_))
        if token.head.head.tag_[:2] in ("VB", "NN") and token.head.head.i < token.i:
            contexts.append(sentence.near_after(token.head.head.lower_))
    if token.dep_ == "dobj" and token.head.i < token.i:
        contexts.append(sentence.near_after(token.head.lower_))
    if token.dep_ in ("nsubj", "nsubjpass") and token.head.i > token.i and token.head.tag_.startswith("V"):
        contexts.append(sentence.near_before(token.head.lower_))
    contexts += [sentence.near_before(child.lower_) for child in token.children if child.dep_ == "acl"]
    if token.i + 1 < len(token.doc) and token.nbor().lower_ == "of":
        contexts.append(sentence.before("of"))
    return contexts


def adjective_slots(sentence: Sentence) -> Iterator[Slot]:
    """An adjective becomes another of its set; colours of people, which say something else of them, are left alone.

    In a paragraph it does so wherever it is said of the same thing.
    """
    mentions: dict[tuple[Concept, str], list[tuple[Token, Token | None]]] = defaultdict(list)
    for token in sentence.doc:
        if token.i in sentence.frozen or token.dep_ not in ADJECTIVE_PLACES:
            continue
        noun = _described(token)
        is_adjective = token.tag_ == "JJ" or (token.tag_ == "NN" and token.dep_ in ("compound", "nmod"))
        in_colour = token.dep_ == "pobj" and token.head.lower_ == "in" and not list(token.children)
        for concept in sentence.contrasts.of("adjective", token.lower_) if is_adjective or in_colour else ():
            if _may_describe(sentence, concept, token, noun, in_colour):
                named = sentence.contrasts.of("noun", noun.lower_) if noun is not None else []
                of = named[0].word if named else "" if noun is None else noun.lower_
                mentions[concept, of if sentence.is_paragraph else str(token.i)].append((token, noun))
    for (concept, _), found in mentions.items():
        members = sentence.contrasts.members["adjective", concept.group]
        others = [o.word for o in members if o != concept and sentence.excludes(concept.word, o.word)]
        contexts = [_of_the_sort(sentence, noun) for token, noun in found if noun is not None and noun.i > token.i]
        must = () if concept.group in FREE else contexts
        drawn = sentence.draw(others, [*others, found[0][0].lower_], contexts, must)
        if drawn is not None:
            changes = tuple(change(token, drawn) for token, _ in found)
            yield Slot(concept.kind, changes, drawn, sentence.weight(concept.word))


def _may_describe(sentence: Sentence, concept: Concept, token: "Token", noun: "Token | None", in_colour: bool) -> bool:
    colour = concept.group == "attribute/colours"
    if noun is None:
        return colour or not in_colour
    if in_colour or (colour and token.lower_ == "orange" and token.tag_ != "JJ"):
        return False
    follows = sentence.lower[token.i + 1 : token.i + 2]
    if concept.group == "attribute/light" and any(sentence.contrasts.of("adjective", word) for word in follows):
        return False  # "dark brown"
    if concept.group == "attribute/ages" and _is_young(sentence, noun):
        return False
    return _may_change(sentence, noun, colour or concept.group == "attribute/sizes")  # "a little girl" is young


def _of_the_sort(sentence: Sentence, noun: "Token") -> Context:
    """How often an adjective stands before a noun or, where that has a contrast set, any of the set."""
    concepts = sentence.contrasts.of("noun", noun.lower_)[:1]
    sort = {other.word for concept in concepts for other in sentence.contrasts.members["noun", concept.group]}
    if noun.tag_ == "NNS":
        sort = {plural(word) for word in sort}
    places = [sentence.before(word) for word in {noun.lower_, *sort}]
    return lambda form: sum(place(form) for place in places)


def _described(token: "Token") -> "Token | None":
    """The noun that an adjective says something of."""
    head = token
    while head.dep_ in ("conj", "amod", "compound", "nmod") and head.head.i != head.i:
        head = head.head
    if head.dep_ == "acomp" or (head.tag_ == "JJ" and head.head.tag_[:2] == "VB"):
        return next((child for child in head.head.children if child.dep_ in ("nsubj", "nsubjpass")), None)
    return head if head.i != token.i and head.tag_ in (*NOUN_TAGS, "NNP") else None


def _may_change(sentence: Sentence, noun: "Token", colour: bool) -> bool:
    if noun.lower_ in PICTURES:
        return False
    person = any(concept.kind == "person" for concept in sentence.contrasts.of("noun", noun.lower_))
    return not (colour and (person or noun.lower_ in ("people", "person", "persons", "player", "team", "couple")))


def _is_young(sentence: Sentence, noun: "Token") -> bool:
    """ "Old" boys are ten years old, or went to school here."""
    return any(c.word in ("boy", "girl", "child", "teenager") for c in sentence.contrasts.of("noun", noun.lower_))


def verb_slots(sentence: Sentence) -> Iterator[Slot]:
    """A verb becomes another of its set in the same form; only sets that take an object where there is one.

    In a paragraph, whose sentences tell of one thing, it does so wherever it is said.
    """
    mentions: dict[Concept, list[Token]] = defaultdict(list)
    for token in sentence.doc:
        if token.tag_ not in VERB_TAGS or token.dep_ not in VERB_PLACES or token.i in sentence.frozen:
            continue
        for concept in sentence.contrasts.of("verb", token.lower_):
            mentions[concept].append(token)
    for concept, every in mentions.items():
        if sentence.is_paragraph:
            found = every if sentence.mentions(concept.word) == len(every) else []
        else:
            found = [sentence.rng.choice(every)]
        drawn = _other_verb(sentence, concept, found) if found else None
        if drawn is not None:
            changes = tuple(change(token, verb_form(drawn, token.tag_)) for token in found)
            yield Slot(concept.kind, changes, drawn, sentence.weight(concept.word))


def _other_verb(sentence: Sentence, concept: Concept, found: "list[Token]") -> str | None:
    must, contexts = [], []
    for token in found:
        objects = [child for child in token.children if child.dep_ in ("dobj", "ccomp", "dative")]
        if bool(objects) == (concept.group.removeprefix("action/") in WITHOUT_OBJECT):
            return None
        if any(thing.tag_ not in NOUN_TAGS or thing.i < token.i for thing in objects):
            return None
        must += [sentence.near_before(thing.lower_) for thing in objects]
        contexts += _verb_contexts(sentence, token)
    members = sentence.contrasts.members["verb", concept.group]
    # What can be held can seldom be worn.
    lemmas = [
        o.word for o in members if o.word not in (concept.word, "wear") and sentence.excludes(concept.word, o.word)
    ]
    forms = {verb_form(lemma, found[0].tag_): lemma for lemma in lemmas}
    drawn = sentence.draw(list(forms), [*forms, found[0].lower_], contexts, must)
    return None if drawn is None else forms[drawn]


def _verb_contexts(sentence: Sentence, token: "Token") -> list[Context]:
    contexts = []
    if token.i + 1 < len(token.doc) and (after := token.nbor()).tag_ in ("IN", "RP", "TO", "RB"):
        contexts.append(sentence.before(after.lower_))
    for child in token.children:
        if child.dep_ in ("prep", "prt") and child.i > token.i + 1:
            contexts.append(sentence.near_before(child.lower_))
        if child.dep_ == "prep" and child.i > token.i:
            contexts += [sentence.near_before(noun.lower_) for noun in child.children if noun.dep_ == "pobj"]
        elif child.dep_ == "nsubj" and child.i < token.i and child.tag_ in NOUN_TAGS:
            contexts.append(sentence.near_after(child.lower_))
    if token.dep_ == "acl" and token.head.i < token.i:
        contexts.append(sentence.near_after(token.head.lower_))
    return contexts
