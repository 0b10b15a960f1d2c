"""What can be said of a drawn scene: templated references, all of them true, of different lengths and wordings.

Two core templates of a kind are always used and three others are drawn, so the five references of a scene agree on
the essentials (a consensus caption exists, as in COCO) and differ in the rest (cross-entropy has something to be unsure
of).
"""

import random
from typing import Any

Facts = dict[str, Any]

NUMBERS = {1: "one", 2: "two", 3: "three"}
SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATION_PHRASES = {
    "left of": ("to the left of", "to the left of", "left of"),
    "right of": ("to the right of", "to the right of", "right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under"),
}
DIRECTION_PHRASES = {
    "left": ("to the left", "to the left", "left"),
    "right": ("to the right", "to the right", "right"),
    "up": ("up", "up", "upwards"),
    "down": ("down", "down", "downwards"),
}
ORIGINS = {"left": "right", "right": "left", "up": "bottom", "down": "top"}
ENDS = {"left": "left", "right": "right", "up": "top", "down": "bottom"}

# {a}, {b}, {c}: an object with its size; {an}, {bn}, {cn}: without. First the two core templates.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "single": (
        "{a} in {the_place}",
        "{an} is in {the_place}",
        "there is {a} in {the_place} of the picture",
        "{a} on a {background} background",
        "{an} in {the_place} of a {background} picture",
        "the picture shows {an}",
        "a {background} background with {a} in {the_place}",
        "{an} alone on a {background} background",
        "a single {bare_a} can be seen in {the_place}",
    ),
    "pair": (
        "{a} {relation} {b}",
        "{an} is {relation} {bn}",
        "there is {a} {relation} {b}",
        "{an} and {bn} on a {background} background",
        "{a} is {relation} {b} on a {background} background",
        "{b} {opposite} {a}",
        "{an} next to {bn}",
        "on a {background} background {an} is {relation} {bn}",
        "the picture shows {an} {relation} {bn}",
        "two shapes where {an} is {relation} {bn}",
    ),
    "inside": (
        "{a} inside {b}",
        "{an} is inside {bn}",
        "there is {a} inside {b}",
        "{an} in the middle of {bn} on a {background} background",
        "{b} with {a} inside it",
        "{bn} around {an}",
        "on a {background} background {an} is inside {bn}",
        "the picture shows {an} inside {bn}",
    ),
    "group": (
        "{group} in a {relation}",
        "{number} {plural} on a {background} background",
        "there are {group} in a {relation}",
        "a {relation} of {group}",
        "the picture shows {number} {plural}",
        "{group} together on a {background} background",
        "on a {background} background there are {number} {plural} in a {relation}",
        "{number} {plural} form a {relation}",
    ),
    "trio": (
        "{an} and {bn} and {cn} in a row",
        "{an} then {bn} then {cn} from left to right",
        "there are {an} and {bn} and {cn}",
        "{bn} between {an} and {cn}",
        "{bn} is between {an} and {cn} on a {background} background",
        "three shapes in a row with {bn} in the middle",
        "on a {background} background there are {an} and {bn} and {cn}",
        "the picture shows three small shapes with {an} on the left",
        "{cn} on the right of three shapes",
    ),
    "move": (
        "{a} moves {first}",
        "{an} is moving {first}",
        "{a} moves {first} on a {background} background",
        "{an} goes {first}",
        "there is {an} that moves {first}",
        "on a {background} background {an} moves {first}",
        "the clip shows {a} moving {first}",
        "{an} slides from the {origin} to the {end}",
    ),
    "turn": (
        "{a} moves {first} and then {second}",
        "{an} is moving {first} and then {second}",
        "first {an} moves {first} and then it moves {second}",
        "{an} goes {first} before it goes {second}",
        "{an} moves {second} after moving {first}",
        "{a} turns and moves {second} after it moved {first}",
        "on a {background} background {an} moves {first} and then {second}",
        "the clip shows {an} moving {first} and then {second}",
    ),
    "sequence": (
        "{a} moves {first} and then {b} moves {second}",
        "{an} moves {first} before {bn} moves {second}",
        "first {an} moves {first} and then {bn} moves {second}",
        "{bn} moves {second} after {an} moves {first}",
        "{an} goes {first} and then {bn} goes {second}",
        "on a {background} background {an} moves {first} and then {bn} moves {second}",
        "the clip shows {an} moving {first} and then {bn} moving {second}",
        "{an} and {bn} move one after the other",
    ),
}


def scene_references(facts: Facts, rng: random.Random, count: int = 5) -> list[str]:
    """Return `count` different true captions of a scene, in random order; `rng` draws templates and synonyms."""
    templates = TEMPLATES[facts["kind"]]
    chosen = [*templates[:2], *rng.sample(templates[2:], count - 2)]
    rng.shuffle(chosen)
    return [caption_of(facts, template, rng) for template in chosen]


def caption_of(facts: Facts, template: str, rng: random.Random) -> str:
    """What a template of TEMPLATES says of a scene; `rng` draws the synonyms."""
    return template.format(**_words(facts, rng))


def _words(facts: Facts, rng: random.Random) -> dict[str, str]:
    words = {"background": facts["background"]}
    for letter, item in zip("abc", facts["objects"], strict=False):
        bare = f"{item['colour']} {item['shape']}"
        words[letter] = f"a {rng.choice(SIZE_WORDS[item['size']])} {bare}"
        words[f"{letter}n"] = f"{'an' if bare[0] in 'aeiou' else 'a'} {bare}"
        words[f"bare_{letter}"] = bare
    relation = facts["relation"]
    if facts["kind"] == "single":
        words["the_place"] = "the middle" if relation == "middle" else f"the {relation} corner"
    elif facts["kind"] == "pair":
        words["relation"] = rng.choice(RELATION_PHRASES[relation])
        words["opposite"] = rng.choice(RELATION_PHRASES[OPPOSITES[relation]])
    elif facts["kind"] == "group":
        item = facts["objects"][0]
        plural = f"{item['colour']} {item['shape']}{'es' if item['shape'] == 'cross' else 's'}"
        size = rng.choice(SIZE_WORDS[item["size"]])
        words |= {"relation": relation, "number": NUMBERS[item["count"]], "plural": plural}
        words["group"] = f"{words['number']} {size} {plural}"
    for name, motion in zip(("first", "second"), facts["motions"], strict=False):
        words[name] = rng.choice(DIRECTION_PHRASES[motion["direction"]])
    if facts["kind"] == "move":
        direction = facts["motions"][0]["direction"]
        words |= {"origin": ORIGINS[direction], "end": ENDS[direction]}
    return words
