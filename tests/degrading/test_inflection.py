"""English forms, there and back."""

import pytest

from rlcap.degrading.contrasts import contrasts
from rlcap.degrading.inflection import article, cased_like, plural, stems, verb_form

PLURALS = {
    **{"dog": "dogs", "bench": "benches", "boy": "boys", "baby": "babies", "woman": "women", "piano": "pianos"},
    **{"potato": "potatoes", "knife": "knives", "sheep": "sheep", "teddy bear": "teddy bears", "bus": "buses"},
}
ARTICLES = {
    "an": ["orange", "hour", "umbrella", "Asian", "onion", "unhappy"],
    "a": ["hat", "uniform", "unicycle", "ukulele", "one-legged", "European"],
}


@pytest.mark.parametrize(("noun", "many"), PLURALS.items())
def test_plurals_and_back(noun: str, many: str) -> None:
    assert plural(noun) == many
    assert noun.split()[-1] in stems(many.split()[-1])


@pytest.mark.parametrize(
    ("lemma", "forms"),
    [
        ("run", "runs running ran run"),
        ("sit", "sits sitting sat sat"),
        ("lie", "lies lying lay lain"),
        ("carry", "carries carrying carried carried"),
        ("catch", "catches catching caught caught"),
        ("ride", "rides riding rode ridden"),
        ("open", "opens opening opened opened"),
        ("hug", "hugs hugging hugged hugged"),
        ("ski", "skis skiing skied skied"),
        ("whisper", "whispers whispering whispered whispered"),
        ("throw", "throws throwing threw thrown"),
    ],
)
def test_verb_forms_and_back(lemma: str, forms: str) -> None:
    made = [verb_form(lemma, tag) for tag in ("VBZ", "VBG", "VBD", "VBN")]
    assert made == forms.split()
    assert all(lemma in stems(form) for form in made)
    with pytest.raises(KeyError):
        verb_form(lemma, "NN")


def test_every_word_of_the_contrast_sets_is_found_from_its_forms() -> None:
    sets = contrasts()
    for (part, group), members in sets.members.items():
        for concept in members:
            last = concept.word.split()[-1]
            if part == "verb":
                forms = [verb_form(last, tag) for tag in ("VBZ", "VBG", "VBD", "VBN")]
            else:
                forms = [last, *([plural(last)] if part == "noun" and last not in sets.plural_only else [])]
            for form in forms:
                assert last in stems(form), f"{form} of {group}"


def test_articles() -> None:
    for a, words in ARTICLES.items():
        assert [article(word) for word in words] == [a] * len(words)


def test_capitals() -> None:
    assert [cased_like("blue", model) for model in ("red", "Red", "RED", "A")] == ["blue", "Blue", "BLUE", "Blue"]
