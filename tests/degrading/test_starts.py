"""The captions that chains start from."""

import pytest

from rlcap.degrading.starts import paragraph, starts

SINGING = [
    "a girl is singing on stage",
    "A girl is singing on stage",
    "a young woman sings a song",
    "a girl in a red dress sings on a stage",
    "the girl sings to a band with guitars",
    "a woman is singing into a microphone",
    "girls singing on stage in a show",
    "how to repair the engine",
    "a band plays while a girl sings",
]


def test_every_reference_once() -> None:
    found = list(starts([("v", SINGING), ("w", ["one"])]))
    assert [start.source for start in found] == ["v#0", *(f"v#{n}" for n in range(2, 9)), "w#0"]
    assert [start.row for start in found] == list(range(9))
    assert found[-1].caption == "one"
    assert found[0].others == tuple(SINGING)


def test_some_of_a_picture_by_the_seed() -> None:
    def drawn(seed: int) -> list[str]:
        return [start.source for start in starts([("v", SINGING), ("w", SINGING)], per_picture=2, seed=seed)]

    assert len(drawn(0)) == 4
    assert drawn(0) == drawn(0)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1


def test_paragraphs_say_different_things_of_one_picture() -> None:
    found = list(starts([("v", SINGING)], join=3, seed=1))
    assert len(found) == 2
    used = [int(place) for start in found for place in start.source.split("#")[1].split("+")]
    assert len(used) == len(set(used)) == 6
    assert 7 not in used  # the engine
    for start in found:
        assert start.caption.count(".") == 3
        assert start.caption.endswith(".")


def test_a_picture_with_few_references_gives_what_it_has() -> None:
    assert [start.caption for start in starts([("v", ["a cat .", "a dog"])], join=4)] in (
        [["a cat. a dog."], ["a dog. a cat."]]
    )


@pytest.mark.parametrize(
    ("sentences", "text"),
    [(["a cat .", "A dog."], "a cat. A dog."), (["who?", "me!"], "who? me!"), (["a", ""], "a.")],
)
def test_one_full_stop_each(sentences: list[str], text: str) -> None:
    assert paragraph(sentences) == text
