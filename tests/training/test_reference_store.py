"""The reference's log-probabilities on the disk: shared by processes and runs, torn anywhere, tried again."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rlcap.training.reference_store import key_of, stored_chains, whole_records

HEADER = {"weights": "a"}


def chain(position: int) -> list[torch.Tensor] | None:
    """Made-up log-probabilities; the picture of chain 3 cannot be decoded."""
    generator = torch.Generator().manual_seed(position)
    return None if position == 3 else [torch.randn(k + 1, generator=generator) for k in range(2 + position % 3)]


class Counted:
    """Scores chains, and breaks off after `most` of them."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.asked = most, []

    def __call__(self, positions: Any) -> Any:
        for position in positions:
            if len(self.asked) == self.most:
                raise KeyboardInterrupt
            self.asked.append(position)
            yield position, chain(position)


def records(folder: Path) -> list[Path]:
    return sorted((folder / key_of(HEADER)).glob("*.bin"))


def assert_whole(found: list[Any]) -> None:
    assert len(found) == 10
    for position, own in enumerate(found):
        expected = chain(position)
        assert (own is None) is (expected is None)
        assert all(a.equal(b) for a, b in zip(own or [], expected or [], strict=True))


def test_a_store_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stored_chains(tmp_path, HEADER, 10, Counted(most=6))
    (file,) = records(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])  # a kill in the middle of a record
    torn = file.read_bytes()
    score = Counted()
    assert_whole(stored_chains(tmp_path, HEADER, 10, score))
    assert score.asked == [3, 5, 6, 7, 8, 9]  # chain 3, whose picture could not be decoded, is tried again
    assert file.read_bytes() == torn
    again = Counted()
    assert_whole(stored_chains(tmp_path, HEADER, 10, again, retry=False))
    assert again.asked == []


def test_a_chain_that_can_be_decoded_now_is_stored(tmp_path: Path) -> None:
    stored_chains(tmp_path, HEADER, 10, Counted())
    before = records(tmp_path)
    stored_chains(tmp_path, HEADER, 10, Counted())
    assert records(tmp_path) == before  # that it cannot be decoded is known
    read = stored_chains(tmp_path, HEADER, 10, lambda positions: ((position, chain(5)) for position in positions))
    again = stored_chains(tmp_path, HEADER, 10, Counted(most=0))  # nothing is to be computed
    for found in (read, again):
        assert all(a.equal(b) for a, b in zip(found[3], chain(5), strict=True))


def test_a_file_that_is_torn_anywhere_gives_what_is_whole_in_it(tmp_path: Path) -> None:
    stored_chains(tmp_path, HEADER, 5, Counted())
    whole = records(tmp_path)[0].read_bytes()
    read = []
    for cut in range(len(whole) + 1):
        for tail in (bytes(64), b"\xff" * 64, b""):  # as file systems fill up what was not written
            found = list(whole_records(whole[:cut] + tail))
            assert [position for position, _ in found] == list(range(len(found)))
            assert all(a.equal(b) for p, own in found for a, b in zip(own or [], chain(p) or [], strict=True))
        read.append(len(found))
    assert read == sorted(read)
    assert set(read) == set(range(6))
    assert read.index(5) == len(whole)


def test_values_that_were_damaged_on_the_disk_are_computed_again(tmp_path: Path) -> None:
    stored_chains(tmp_path, HEADER, 10, Counted())
    (file,) = records(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # in the last value
    score = Counted()
    assert_whole(stored_chains(tmp_path, HEADER, 10, score))
    assert score.asked == [3, 9]


def test_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    other = Counted()

    def meanwhile(positions: Any) -> Any:
        for number, scored in enumerate(Counted()(positions)):
            if number == 5:  # in the middle of this run another one begins and ends
                assert_whole(stored_chains(tmp_path, HEADER, 10, other))
            yield scored

    assert_whole(stored_chains(tmp_path, HEADER, 10, meanwhile))
    assert other.asked == list(range(10))
    assert len(records(tmp_path)) == 2
    third = Counted()
    assert_whole(stored_chains(tmp_path, HEADER, 10, third))
    assert third.asked == [3]


def test_processes_share_the_work_whatever_their_number(tmp_path: Path) -> None:
    first = Counted()
    with pytest.raises(ValueError, match=r"lacks the reference of 5 chains .* a folder that all machines share"):
        stored_chains(tmp_path, HEADER, 10, first, rank=1, world=2)
    assert first.asked == [1, 3, 5, 7, 9]
    three = [Counted() for _ in range(3)]  # as three processes: each waits until the others have written
    missing = [0, 2, 4, 6, 8]
    for rank in (2, 1, 0):
        copied = tmp_path / str(rank)
        shutil.copytree(tmp_path / key_of(HEADER), copied / key_of(HEADER))
        with pytest.raises(ValueError, match=re.escape("lacks the reference")):
            stored_chains(copied, HEADER, 10, three[rank], rank=rank, world=3)
    assert sorted(position for own in three for position in own.asked if position != 3) == missing
    assert three[0].asked == [0, 3, 6]


def test_processes_that_see_more_and_less_of_another_run_leave_nothing_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks the reference of 5 chains"):
        stored_chains(tmp_path, HEADER, 10, Counted(), rank=0, world=2)
    another = Counted(most=2)
    with pytest.raises(KeyboardInterrupt):
        stored_chains(tmp_path, HEADER, 10, another)  # writes chains of the second process before that looks
    second = Counted()
    assert_whole(stored_chains(tmp_path, HEADER, 10, second, rank=1, world=2))
    assert another.asked == [1, 3]
    assert second.asked == [3, 5, 7, 9]
