"""The stream of shards: every row once an epoch over the ranks, shuffled, and gone on with at any batch."""

from collections import Counter
from copy import copy
from itertools import islice, pairwise
from pathlib import Path

import pytest
from drawn import png, write_shards, write_tar

from rlcap.data.collate import open_visual
from rlcap.data.stream import CaptionStream, StreamBatches


def batches(
    stream: CaptionStream,
    number: int,
    size: int = 4,
    rank: int = 0,
    world: int = 1,
    start: dict | None = None,
    seed: int = 0,
) -> tuple[list[list[str]], list[dict]]:
    """The ids of the next batches, and the state after each; the empty ones of a resume are left out."""
    source = StreamBatches(stream, size, seed, rank, world, start)
    ids, states = [], []
    for batch in islice((batch for batch in source if batch), number):
        source.used()
        ids.append([row["image_id"] for row in batch])
        states.append(source.state())
    return ids, states


@pytest.fixture
def stream(tmp_path: Path) -> CaptionStream:
    write_shards(tmp_path, [7, 5, 9, 3])
    return CaptionStream(f"{tmp_path}/{{0..3}}.tar", buffer=5)


def test_an_epoch_has_every_row_once_and_epochs_differ(stream: CaptionStream) -> None:
    ids = [name for batch in batches(stream, 18)[0] for name in batch]  # three epochs of 24 rows
    epochs = [ids[start : start + 24] for start in (0, 24, 48)]
    assert all(sorted(epoch) == sorted(f"r{n}" for n in range(24)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert batches(stream, 18)[0] == batches(stream, 18)[0]
    assert batches(stream, 6)[0] != batches(stream, 6, seed=1)[0]
    numbers = [int(name[1:]) for name in epochs[0]]
    assert sum(b == a + 1 for a, b in pairwise(numbers)) < 12  # in the files: 20 of 23


def test_rows_are_as_load_captions_gives_them(stream: CaptionStream) -> None:
    row = next(batch for batch in StreamBatches(stream, 1, 0, 0, 1, None) if batch)[0]
    number = int(row["image_id"][1:])
    assert (row["references"], row["split"]) == ([f"row {number}"], "train")
    assert open_visual(row).getpixel((0, 0)) == (number, 0, 0)  # type: ignore[union-attr]
    assert row["image"]["path"].endswith(f".tar::r{number}.png")
    assert dict(stream.references()) == {f"r{n}": [f"row {n}"] for n in range(24)}


@pytest.mark.parametrize("world", [2, 3, 4, 7])  # fewer, as many and more ranks than shards
def test_ranks_share_an_epoch_exactly_once(stream: CaptionStream, world: int) -> None:
    seen: Counter[str] = Counter()
    for rank in range(world):
        source = StreamBatches(stream, 1, 0, rank, world, None)
        for batch in source:
            source.used()
            if source.position.epoch > 0:
                break
            seen[batch[0]["image_id"]] += 1
    assert seen == Counter({f"r{n}": 1 for n in range(24)})


@pytest.mark.parametrize("seed", range(4))
def test_ranks_whose_shards_are_all_of_another_split(tmp_path: Path, seed: int) -> None:
    for split, rows_of in (("train", [3, 2]), ("val", [2, 2])):
        (tmp_path / split).mkdir()
        write_shards(tmp_path / split, rows_of, split=split)
    stream = CaptionStream(f"{tmp_path}/{{train,val}}/{{0,1}}.tar", buffer=4)
    seen: Counter[tuple[int, str]] = Counter()
    for rank in range(2):
        source = StreamBatches(stream, 1, seed, rank, 2, None)
        for batch in source:
            source.used()
            if source.position.epoch > 5:
                break
            seen[source.position.epoch, batch[0]["image_id"]] += 1
    assert seen == Counter({(epoch, f"r{n}"): 1 for epoch in range(6) for n in range(5)})


def test_fewer_rows_than_ranks(tmp_path: Path) -> None:
    write_shards(tmp_path, [2])
    stream = CaptionStream(f"{tmp_path}/0.tar", buffer=4)
    firsts = [batches(stream, 2, size=1, rank=rank, world=4) for rank in range(4)]
    seen = Counter((state["epoch"], name) for ids, states in firsts for (name,), state in zip(ids, states, strict=True))
    assert seen == Counter({(epoch, name): 1 for epoch in range(4) for name in ("r0", "r1")})


def test_going_on_from_any_batch(stream: CaptionStream) -> None:
    for world, rank in ((1, 0), (3, 1), (7, 5)):
        ids, states = batches(stream, 12, rank=rank, world=world)
        for at, state in enumerate(states[:-1]):
            again, ends = batches(stream, 12 - at - 1, rank=rank, world=world, start=state)
            assert again == ids[at + 1 :]
            assert ends == states[at + 1 :]
            assert state["batches"] == at + 1
    with pytest.raises(ValueError, match="left off by 7 processes and cannot be gone on with by 2"):
        batches(stream, 1, rank=0, world=2, start=state)


def test_going_on_opens_nothing_before_its_shard(stream: CaptionStream, monkeypatch: pytest.MonkeyPatch) -> None:
    states = batches(stream, 6, size=4)[1]
    again = copy(stream)  # the first one may still be reading ahead
    read: list[tuple[str, int]] = []
    rows = again.rows
    monkeypatch.setattr(again, "rows", lambda shard, skip=0: (read.append((shard, skip)), rows(shard, skip))[1])
    batches(again, 1, start=states[4])  # 20 of 24 rows are behind
    order = StreamBatches(again, 1, 0, 0, 1, None)._shards(0)
    assert read[0] == (order[states[4]["shard"]], states[4]["row"])
    assert states[4]["shard"] > 0


def test_other_splits_and_wrong_rows(tmp_path: Path) -> None:
    write_shards(tmp_path, [2], split="val")
    with pytest.raises(ValueError, match=r'has no rows in the split "train"$'):
        batches(CaptionStream(f"{tmp_path}/0.tar", buffer=2), 1)
    assert sorted(batches(CaptionStream(f"{tmp_path}/0.tar", buffer=2, split="validation"), 1, size=2)[0][0]) == [
        "r0",
        "r1",
    ]
    empty = write_tar(tmp_path / "e.tar", [("a.png", png(1)), ("a.txt", " ")])
    with pytest.raises(ValueError, match="a has an empty caption"):
        batches(CaptionStream(str(empty), buffer=2), 1)
    with pytest.raises(ValueError, match="a has no references"):
        batches(CaptionStream(str(empty), buffer=2, drop_empty=True), 1)
    twice = [
        (f"{key}.{end}", content)
        for key in "ab"
        for end, content in (("png", png(1)), ("json", {"id": 1, "caption": "x"}))
    ]
    with pytest.raises(ValueError, match='"1" comes twice within a buffer'):
        batches(CaptionStream(str(write_tar(tmp_path / "t.tar", twice)), buffer=2), 1)
    with pytest.raises(ValueError, match="shuffle_buffer is 0"):
        CaptionStream(f"{tmp_path}/0.tar", buffer=0)
