"""The `llm` degrader's side of a chain: what a chat model is asked, and what of its answers is taken."""

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from rlcap.data.chains import KINDS
from rlcap.data.edits import Edit, edit_between, same, words
from rlcap.degrading.chain import Chain, Start
from rlcap.near import did_you_mean

WHAT = {
    "object": "a thing or an animal becomes another one",
    "attribute": "a colour, size, material or state becomes another one",
    "count": "a number of things becomes another one",
    "action": "what somebody does becomes something else",
    "relation": "where something is, seen from something else, becomes another place",
    "person": "who somebody is (man, girl, chef) becomes somebody else",
    "order": "what happens first happens later",
    "scene": "the place, weather or time of day becomes another one",
}
TASK = (
    "You make captions of a picture or clip wrong, one detail at a time. You are given a caption. Change exactly one "
    "detail that can be checked by looking, so that the caption becomes false in that detail, and keep all other "
    "words as they are. The new caption must be plausible, grammatical and about as long as the old one. Kinds:\n"
    "{kinds}\n"
    'Answer with one line of JSON and nothing else: {{"kind": "...", "caption": "the whole changed caption"}}'
)
EXAMPLES = (
    ("attribute", "A dog lies on a blue sofa.", "A dog lies on a red sofa."),
    ("person", "A chef slices bread.", "A boy slices bread."),
    ("object", "Two women wait for a bus.", "Two women wait for a train."),
)
"""Kind, caption and changed caption, shown as turns of the conversation: small models take the form from them."""
CUT = "answer cut off"
AGREEING = {
    *("a", "an", "the", "he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their"),
    *("himself", "herself", "itself", "themselves", "is", "are", "was", "were", "has", "have", "does", "do"),
}


@dataclass(frozen=True)
class Limits:
    """What answers have to keep to. length: captions of a chain. words: of the detail, at most, on either side.

    longer: by how many words a caption may grow or shrink in one step. tries: answers asked for at each step.
    """

    length: int = 5
    words: int = 4
    longer: int = 4
    tries: int = 4
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True)
class Request:
    """Messages to a chat model, the caption that its answer repeats with a change, and the seed of that answer."""

    messages: tuple[dict[str, str], ...]
    caption: str
    seed: int


@dataclass(frozen=True)
class Answer:
    """What a chat model said. flaw: why that is nothing, or not all of it; counted where it cannot be used."""

    text: str
    flaw: str = ""


@dataclass
class _Progress:
    captions: list[str]
    edits: list[Edit] = field(default_factory=list)
    touched: list[tuple[int, int]] = field(
        default_factory=list
    )  # characters of the last caption that edits have put there
    failures: Counter[str] = field(default_factory=Counter)


def conversation(start: Start, seed: int, limits: Limits) -> Generator[Request, Answer, Chain]:
    """Yields what to ask, is sent what was answered, and returns the chain.

    An answer that does not keep to the limits is counted by its reason and asked for again, `limits.tries` times; then
    the chain ends where it is.
    """
    made = _Progress([start.caption])
    while len(made.captions) < limits.length:
        for attempt in range(limits.tries):
            seeded = _seed(seed, start, len(made.edits), attempt)
            request = Request(_messages(start, made, limits), made.captions[-1], seeded)
            reason = _take(made, (yield request), limits)
            if reason is None:
                break
            made.failures[reason] += 1
        else:
            made.failures["given up"] += 1
            break
    return Chain(tuple(made.captions), tuple(made.edits), dict(made.failures))


def _messages(start: Start, made: _Progress, limits: Limits) -> tuple[dict[str, str], ...]:
    kinds = "\n".join(f"- {kind}: {WHAT[kind]}" for kind in limits.kinds)
    lines = []
    others = [other for other in start.others if other != start.caption][:5]
    if others:
        lines += ["True of the same picture, so the new detail must contradict it:", *others, ""]
    if made.edits:
        changes = dict.fromkeys((change.before, change.after) for edit in made.edits for change in edit.changes)
        done = ", ".join(f'"{before}" to "{after}"' for before, after in changes)
        used = ", ".join(dict.fromkeys(edit.kind for edit in made.edits))
        lines += [f"Changed already, to be kept as it is now: {done}. Prefer other kinds than {used}.", ""]
    lines += ["Caption:", made.captions[-1]]
    turns = [
        turn
        for kind, caption, changed in EXAMPLES
        if kind in limits.kinds
        for turn in (_said("user", f"Caption:\n{caption}"), _said("assistant", _answer(kind, changed)))
    ]
    first, *rest = [*turns, _said("user", "\n".join(lines))]
    # In the first turn, since some chat templates (Gemma's) know no system role.
    return _said("user", f"{TASK.format(kinds=kinds)}\n\n{first['content']}"), *rest


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _answer(kind: str, caption: str) -> str:
    return json.dumps({"kind": kind, "caption": caption})


def _seed(seed: int, start: Start, step: int, attempt: int) -> int:
    text = f"{seed} {start.row} {start.image_id} {step} {attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _take(made: _Progress, answer: Answer, limits: Limits) -> str | None:
    """Adds the answer to the chain; returns the reason where it is refused."""
    found = read_answer(answer.text)
    if found is None:
        return answer.flaw or ("no JSON with kind and caption" if answer.text.strip() else "no answer")
    kind, caption = found
    if kind not in limits.kinds:
        return "unknown kind"
    last = made.captions[-1]
    if same(last, caption):
        return "nothing changed"
    if any(same(earlier, caption) for earlier in made.captions):
        return "an earlier caption again"
    edit = edit_between(last, caption, kind)
    if abs(len(words(caption)) - len(words(last))) > limits.longer:
        return "much longer or shorter"
    if not _is_one_detail(edit, last, caption, limits.words):
        return "more than one detail changed"
    if any(a < change.end and change.at < b for change in edit.changes for a, b in made.touched):
        return "a changed detail changed again"
    for change in reversed(edit.changes):
        shift = len(change.after) - len(change.before)
        made.touched = [(a + shift, b + shift) if a >= change.end else (a, b) for a, b in made.touched]
        made.touched.append((change.at, change.at + len(change.after)))
    made.captions.append(caption)
    made.edits.append(edit)
    return None


def _is_one_detail(edit: Edit, last: str, caption: str, most: int) -> bool:
    """Whether the same few words became the same others wherever they stood, or, in an order, words changed places.

    What follows from that is no second detail: articles, pronouns, and a plural or verb form in agreement.
    """
    if edit.kind == "order":
        return sorted(words(last.lower())) == sorted(words(caption.lower()))
    pairs = [(words(change.before.lower()), words(change.after.lower())) for change in edit.changes]
    details = {(_told(old), _told(new)) for old, new in pairs if not _follows(old, new)}
    most_told = max((len(side) for detail in details for side in detail), default=0)
    return len(details) == 1 and most_told <= most and len(pairs[0][0]) < len(words(last))


def _told(said: list[str]) -> tuple[str, ...]:
    return tuple(word for word in said if word not in AGREEING)


def _follows(old: list[str], new: list[str]) -> bool:
    """Whether words are changed only as others demand: "his" to "her", "a" to "an", "runs" to "run"."""
    return len(old) == len(new) and all(
        {a, b} <= AGREEING or {a, b} in ({a, a + "s"}, {b, b + "s"}, {a, a + "es"}, {b, b + "es"})
        for a, b in zip(old, new, strict=True)
    )


def read_answer(text: str) -> tuple[str, str] | None:
    """Kind and caption from the first JSON object in a text that has both; None where there is none."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            item, _ = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            item = None
        if isinstance(item, dict) and isinstance(item.get("kind"), str) and isinstance(item.get("caption"), str):
            return item["kind"].strip().lower(), " ".join(item["caption"].split())
        at = text.find("{", at + 1)
    return None


def described(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds in the order of KINDS; all where none is given. Raises ValueError for an unknown one."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        near = did_you_mean(unknown[0], KINDS)
        raise ValueError(f"there is no kind of edit {unknown[0]!r}{near}; there are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if not kinds or kind in kinds)
