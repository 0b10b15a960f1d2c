"""The memory of vectors: what was used last stays, and what is kept again counts once."""

from rewards.kept import Kept


def test_what_was_used_longest_ago_makes_room() -> None:
    kept = Kept(3)
    kept.put("picture", "a", "A", 1)
    kept.put("picture", "b", "B", 2)
    assert kept.look_up("picture", ["a", "c", "a"]) == ({"a": "A"}, ["c"])
    assert kept.look_up("caption", ["a"]) == ({}, ["a"])
    kept.put("picture", "c", "C", 1)
    assert kept.look_up("picture", "abc") == ({"a": "A", "c": "C"}, ["b"])


def test_what_is_kept_again_counts_once() -> None:
    kept = Kept(3)
    kept.put("picture", "a", "A", 1)
    for value in ("B", "b", "beta"):
        kept.put("picture", "b", value, 2)
    assert kept.look_up("picture", "ab") == ({"a": "A", "b": "beta"}, [])
    kept.put("picture", "huge", "H", 4)
    assert kept.look_up("picture", ["a", "b", "huge"])[1] == ["a", "b", "huge"]
