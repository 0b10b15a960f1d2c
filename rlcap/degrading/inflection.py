"""English forms: of nouns and verbs from their lemma, back to the lemma by a word's ending, and a or an."""

import re
from functools import cache

VOWELS = "aeiou"
IRREGULAR_PLURALS = {
    **{"man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth"},
    **{"mouse": "mice", "goose": "geese", "ox": "oxen", "wife": "wives", "knife": "knives", "leaf": "leaves"},
    **{"shelf": "shelves", "half": "halves", "wolf": "wolves", "calf": "calves", "loaf": "loaves", "thief": "thieves"},
    **{"policeman": "policemen", "fisherman": "fishermen", "fireman": "firemen", "snowman": "snowmen"},
    **{"gentleman": "gentlemen", "cattle": "cattle", "sheep": "sheep", "fish": "fish", "deer": "deer"},
    **{"shrimp": "shrimp", "aircraft": "aircraft", "skis": "skis", "stairs": "stairs", "staircase": "staircases"},
    **{"piano": "pianos", "photo": "photos", "video": "videos", "disco": "discos", "radio": "radios", "taxi": "taxis"},
}
# lemma: past, participle (the latter only where it differs)
IRREGULAR_VERBS = {
    **{"sit": ("sat",), "stand": ("stood",), "lie": ("lay", "lain"), "kneel": ("knelt",), "run": ("ran", "run")},
    **{"swim": ("swam", "swum"), "throw": ("threw", "thrown"), "catch": ("caught",), "hold": ("held",)},
    **{"ride": ("rode", "ridden"), "speak": ("spoke", "spoken"), "sing": ("sang", "sung"), "sleep": ("slept",)},
    **{"cut": ("cut",), "eat": ("ate", "eaten"), "drink": ("drank", "drunk"), "read": ("read",), "leap": ("leapt",)},
    **{"write": ("wrote", "written"), "draw": ("drew", "drawn"), "fight": ("fought",), "drive": ("drove", "driven")},
    **{"leave": ("left",), "shut": ("shut",), "wear": ("wore", "worn"), "buy": ("bought",), "sell": ("sold",)},
    **{"win": ("won",), "lose": ("lost",), "build": ("built",), "break": ("broke", "broken"), "slide": ("slid",)},
    **{"bite": ("bit", "bitten"), "weep": ("wept",), "stride": ("strode", "stridden"), "dive": ("dived",)},
    **{"fly": ("flew", "flown"), "fall": ("fell", "fallen"), "swing": ("swung",), "hit": ("hit",), "put": ("put",)},
    **{"take": ("took", "taken"), "give": ("gave", "given"), "make": ("made",), "go": ("went", "gone")},
    **{"get": ("got",), "keep": ("kept",), "spin": ("spun",), "dig": ("dug",), "feed": ("fed",), "teach": ("taught",)},
    **{"blow": ("blew", "blown"), "shoot": ("shot",), "see": ("saw", "seen"), "tell": ("told",), "say": ("said",)},
    **{"show": ("showed", "shown"), "hang": ("hung",), "come": ("came", "come"), "begin": ("began", "begun")},
    **{"shake": ("shook", "shaken"), "steal": ("stole", "stolen"), "hide": ("hid", "hidden"), "lead": ("led",)},
    **{"tear": ("tore", "torn"), "pay": ("paid",), "lay": ("laid",), "spread": ("spread",), "bend": ("bent",)},
    **{"rise": ("rose", "risen"), "do": ("did", "done"), "have": ("had",), "meet": ("met",), "light": ("lit",)},
}
# Verbs whose last letter is doubled though they do not end in one vowel of one syllable, and those where it is not.
DOUBLED = {"whiz", "quiz", "equip", "unzip"}
NOT_DOUBLED = {
    "open",
    "enter",
    "lower",
    "exit",
    "whisper",
    "snowboard",
    "skateboard",
    "float",
    "listen",
    "visit",
    "cover",
}
# Said with "an" though they begin with a consonant, and with "a" though they begin with a vowel.
AN = re.compile(r"(hour|honest|heir|honou?r)", re.IGNORECASE)
A = re.compile(r"(uni(?!n|m)|use|usu|eu|one\b|once|ukulele|utensil)", re.IGNORECASE)

_PLURAL_OF = {plural: singular for singular, plural in IRREGULAR_PLURALS.items()}
_VERB_OF = {form: lemma for lemma, forms in IRREGULAR_VERBS.items() for form in forms}


def plural(noun: str) -> str:
    """The plural of a noun in the singular; of words joined by a space or hyphen that of the last one."""
    head, joint, last = re.match(r"(.*?)([ -]?)([^ -]*)$", noun).groups()  # type: ignore[union-attr]
    return head + joint + _plural(last)


def _plural(noun: str) -> str:
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return f"{noun}es"
    if re.search(rf"[^{VOWELS}]y$", noun):
        return f"{noun[:-1]}ies"
    if re.search(rf"[^{VOWELS}]o$", noun):
        return f"{noun}es"
    return f"{noun}s"


def verb_form(lemma: str, tag: str) -> str:
    """The form of a verb with a Penn Treebank tag: VB, VBP, VBZ, VBG, VBD or VBN. Raises KeyError for another tag."""
    forms = {"VB": lambda: lemma, "VBP": lambda: lemma, "VBZ": lambda: _third(lemma), "VBG": lambda: _ing(lemma)}
    if tag in ("VBD", "VBN"):
        irregular = IRREGULAR_VERBS.get(lemma)
        return irregular[-1 if tag == "VBN" else 0] if irregular else _ed(lemma)
    return forms[tag]()


def _third(lemma: str) -> str:
    if lemma in ("have", "be"):
        return {"have": "has", "be": "is"}[lemma]
    return _plural(lemma) if lemma not in ("lie", "die") and not lemma.endswith("f") else f"{lemma}s"


def _ing(lemma: str) -> str:
    if lemma.endswith("ie"):
        return f"{lemma[:-2]}ying"
    if lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye")) and lemma != "be":
        return f"{lemma[:-1]}ing"
    return f"{_doubled(lemma)}ing"


def _ed(lemma: str) -> str:
    if lemma.endswith("e"):
        return f"{lemma}d"
    if re.search(rf"[^{VOWELS}]y$", lemma):
        return f"{lemma[:-1]}ied"
    return f"{_doubled(lemma)}ed"


def _doubled(lemma: str) -> str:
    one_syllable = re.fullmatch(rf"[^{VOWELS}]*(qu)?[{VOWELS}][^{VOWELS}wxy]", lemma) is not None
    return lemma + lemma[-1] if lemma in DOUBLED or (one_syllable and lemma not in NOT_DOUBLED) else lemma


@cache
def stems(word: str) -> tuple[str, ...]:
    """What a lower-case word may be a form of, itself first; without a dictionary, so some of them are no words."""
    found = [word]
    for table in (_PLURAL_OF, _VERB_OF):
        if word in table:
            found.append(table[word])
    if word.endswith("ies") and len(word) > 4:
        found.append(f"{word[:-3]}y")
    if word.endswith("es") and len(word) > 3:
        found.append(word[:-2])
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        found.append(word[:-1])
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            stem = word[: -len(ending)]
            found += [stem, f"{stem}e"]
            if stem[-1] == stem[-2:-1]:
                found.append(stem[:-1])
            if stem.endswith("i"):
                found.append(f"{stem[:-1]}y")
            if stem.endswith("y"):
                found.append(f"{stem[:-1]}ie")
    return tuple(dict.fromkeys(found))


def article(word: str) -> str:
    """ "a" or "an", whichever goes before a word."""
    if AN.match(word):
        return "an"
    return "a" if A.match(word) or word[:1].lower() not in VOWELS else "an"


def cased_like(text: str, model: str) -> str:
    """The text with a capital where `model` begins with one, and all of them where it is in capitals."""
    if len(model) > 1 and model.isupper():
        return text.upper()
    return text[:1].upper() + text[1:] if model[:1].isupper() else text
