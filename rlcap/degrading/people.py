"""Which words name men and which women, and the pronouns that have to change with them."""

from typing import TYPE_CHECKING

from rlcap.degrading.sentence import Sentence, change

if TYPE_CHECKING:
    from spacy.tokens import Token

MALE = {"man", "boy", "father", "son", "brother", "husband", "king", "prince"}
FEMALE = {"woman", "girl", "mother", "daughter", "sister", "wife", "queen", "princess"}
SAME_AGE = {"man": "woman", "woman": "man", "boy": "girl", "girl": "boy"}
GENDER = {**dict.fromkeys(MALE, "male"), **dict.fromkeys(FEMALE, "female")}
NEUTRAL = {"person", "baby", "dog", "cat", "horse", "friend", "player", "someone", "animal"}
TO_FEMALE = {"he": "she", "his": "her", "him": "her", "himself": "herself"}
TO_MALE = {"she": "he", "hers": "his", "herself": "himself"}  # "her" is "his" or "him"


def _may_be(concept: str, gender: str) -> bool:
    return GENDER.get(concept, gender) == gender


def swaps_gender(first: str, second: str) -> bool:
    """Whether one names a man, the other a woman: ages alone are a matter of opinion ("a boy", "a young man")."""
    return GENDER.get(first) != GENDER.get(second) and second in GENDER


def disputed(sentence: Sentence, concept: str) -> bool:
    """Whether other references speak of the other gender alone: then the caption may be wrong as it is."""
    genders = {GENDER[word] for word in sentence.supported if word in GENDER}
    return bool(genders) and GENDER[concept] not in genders


def pronoun_changes(
    sentence: Sentence, old: str, new: str, mentions: "list[Token]"
) -> list[tuple[int, int, str]] | None:
    """The pronouns of `old` as those of `new`; None where they may belong to somebody else in the caption.

    A pronoun is theirs behind a mention of them, in the same sentence, where nobody and nothing else acts.
    """
    if GENDER[old] == GENDER[new]:
        return []
    pronouns = {**TO_FEMALE} if GENDER[old] == "male" else {**TO_MALE, "her": "his"}
    found = [token for token in sentence.doc if token.lower_ in pronouns]
    if not found:
        return []
    places = {token.i for token in mentions}
    for token in sentence.doc:
        if token.i not in places:
            concepts = sentence.contrasts.of("noun", token.lower_)
            if token.lower_ in NEUTRAL or any(c.kind == "person" and _may_be(c.word, GENDER[old]) for c in concepts):
                return None
    changes = []
    for token in found:
        before = [other for other in token.sent if other.i < token.i]
        if all(other.i not in places for other in before) or any(_acts(o) and o.i not in places for o in before):
            return None
        text = pronouns[token.lower_]
        if token.lower_ == "her" and token.tag_ != "PRP$":
            text = "him"
        changes.append(change(token, text))
    return changes


def _acts(token: "Token") -> bool:
    """Whether a noun or a name does something: "the driver turns", "a quarterback throwing"."""
    is_subject = token.dep_ in ("nsubj", "nsubjpass") or any(c.dep_ == "acl" for c in token.children)
    return token.tag_ in ("NN", "NNS", "NNP", "NNPS") and is_subject
