"""What happens first."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlcap.degrading.sentence import Sentence, Slot, change

if TYPE_CHECKING:
    from spacy.tokens import Token

SUBJECT = {"nsubj", "det", "amod", "compound"}


def order_slots(sentence: Sentence) -> Iterator[Slot]:
    """What happens "before" happens "after", and what is done "and then" is done first."""
    for token in sentence.doc:
        other = {"before": "after", "after": "before"}.get(token.lower_)
        of_time = token.dep_ == "mark" or any(child.dep_ == "pcomp" for child in token.children)
        if other and of_time:
            yield Slot("order", (change(token, other),), f"{other} {token.i}", 2.0)
        if token.lower_ == "then" and token.i >= 2:
            slot = _swapped(sentence, token)
            if slot is not None:
                yield slot


def _swapped(sentence: Sentence, then: "Token") -> Slot | None:
    """ "(and) then" between two verbs of one form: what is said before and after it change places."""
    second = then.head if then.head.i > then.i else None
    first = None if second is None else second.head
    if (
        second is None
        or first is None
        or second.dep_ != "conj"
        or (first.tag_ != second.tag_ and first.lower_ != second.lower_)
    ):
        return None
    doc = sentence.doc
    joint = then.i
    while joint > 0 and doc[joint - 1].lower_ in ("and", ","):
        joint -= 1
    end = then.sent.end
    while end > then.i and doc[end - 1].is_punct:
        end -= 1
    if not first.i < joint or end <= second.i:
        return None
    early, late = doc[_beginning(first, then) : joint], doc[then.i + 1 : end]
    if _beginning(second, then) != then.i + 1 or early.text.lower() == late.text.lower():
        return None
    if any(token.tag_ in ("PRP", "PRP$", "WDT") for token in late):
        return None
    between = doc.text[early.end_char : late.start_char]
    text = f"{late.text}{between}{early.text}"
    return Slot("order", ((early.start_char, late.end_char, text),), f"then {then.i}", 2.0)


def _beginning(verb: "Token", then: "Token") -> int:
    """Where the clause of a verb begins: at its subject where both clauses have their own, else at the verb."""
    if not any(child.dep_ == "nsubj" for child in then.head.children):
        return verb.i
    # Where "a circle moves" is taken for a noun, what belongs to it is the subject.
    return min((child.left_edge.i for child in verb.children if child.dep_ in SUBJECT), default=verb.i)
