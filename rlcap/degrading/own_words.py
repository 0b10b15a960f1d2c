"""Nouns without a contrast set, replaced by other words of the data set that are said in the same places."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.sentence import Context, Sentence, Slot, change

if TYPE_CHECKING:
    from spacy.tokens import Token

AT_LEAST = 3  # times that a word must be seen in each of the places
RARELY = 1.0  # at most so often as by chance both words are said of one picture
EXPECTED = 0.5  # pictures with both that chance alone would give: with fewer, none says nothing
LIGHT = {"do", "does", "doing", "did", "make", "makes", "making", "take", "takes", "taking", "have", "has", "having"}
WEIGHT = 0.5  # against a word of a contrast set


def own_word_slots(sentence: Sentence) -> Iterator[Slot]:
    """An object of a verb or preposition becomes a word of its sort that this verb and preposition are seen with.

    Words of one sort stand among the same others (`Vocabulary.neighbours`). Synonyms and things that go together are
    what annotators say of the same picture: pairs that are so said more often than by chance are left out.
    """
    vocabulary = sentence.vocabulary
    for token in sentence.doc:
        if not _may_change(sentence, token):
            continue
        places = _places(sentence, token)
        if len(places) < 2:
            continue
        words, weights = [], []
        for word in vocabulary.neighbours(token.lower_, token.tag_):
            seen = min(place(word) for place in places)
            if seen >= AT_LEAST and _excluded(sentence, token.lower_, word):
                words.append(word)
                weights.append(seen**0.5)
        if words:
            drawn = sentence.rng.choices(words, weights)[0]
            yield Slot("object", (change(token, drawn),), drawn, WEIGHT * sentence.weight(token.lower_))


def _may_change(sentence: Sentence, token: "Token") -> bool:
    word = token.lower_
    if token.tag_ not in ("NN", "NNS") or token.dep_ not in ("dobj", "pobj") or token.i in sentence.frozen:
        return False
    if (
        token.head.lower_ in LIGHT
        or word in sentence.contrasts.vague
        or sentence.contrasts.of("noun", word)
        or sentence.lower.count(word) > 1
    ):
        return False
    if token.tag_ == "NN" and not any(child.dep_ in ("det", "poss") for child in token.children):
        return False  # without an article: few words can be
    follows = token.nbor().lower_ if token.i + 1 < len(token.doc) else ""
    return follows not in ("of", "that", "which") and token.nbor(-1).tag_ not in ("NN", "CD", "VBG")


def _places(sentence: Sentence, token: "Token") -> list[Context]:
    places = [sentence.near_after(token.head.lower_), sentence.next_to(token.nbor(-1).lower_)]
    above = token.head.head
    if token.dep_ == "pobj" and above.i < token.i and above.tag_[:2] in ("VB", "NN"):
        places.append(sentence.near_after(above.lower_))
    return places


def _excluded(sentence: Sentence, word: str, other: str) -> bool:
    """Whether what is `word` is not `other` too, as far as the data set tells."""
    sets, vocabulary = sentence.contrasts, sentence.vocabulary
    if other == word or other in sets.vague or other in sentence.said or sets.says(other) & sentence.said:
        return False
    return vocabulary.expected(word, other) >= EXPECTED and vocabulary.exchanged(word, other) <= RARELY
