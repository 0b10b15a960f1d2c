"""Files of chains: shares, kills, other settings, what is dropped."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlcap.data.edits import edit_between
from rlcap.degrading.chain import Chain, Start
from rlcap.degrading.chain_file import write_chains

TOTAL = 10


class Killed(Exception):
    """The process ends here."""


class Numbers:
    """Counts up a caption's number; every third caption has no details; after `most` units the process is killed."""

    batch = 2

    def __init__(self, most: int = 99) -> None:
        self.most = most
        self.made: list[int] = []

    def chains(self, units: Iterable[list[Start]]) -> Iterator[list[tuple[Start, Chain]]]:
        for number, unit in enumerate(units):
            if number == self.most:
                raise Killed
            self.made += [start.row for start in unit]
            yield [(start, self._chain(start)) for start in unit]

    def _chain(self, start: Start) -> Chain:
        if start.row % 3 == 2:
            return Chain((start.caption,), (), {"too few details": 1})
        after = f"{start.row + 1} dogs"
        return Chain((start.caption, after), (edit_between(start.caption, after, "count"),))


def write(output: Path, degrader: Numbers, **options: Any) -> dict[str, Any] | None:
    starts = [Start(row, f"v{row}", f"v{row}#0", f"{row} dogs") for row in range(TOTAL)]
    settings = {"batch": 2, "row": lambda start: {"image_id": start.image_id}, "total": TOTAL, "header": {"seed": 1}}
    return write_chains(lambda: degrader, lambda: iter(starts), output, **{**settings, **options})


def test_one_process(tmp_path: Path) -> None:
    output = tmp_path / "chains.jsonl"
    summary = write(output, Numbers())
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image_id"] for row in rows] == ["v0", "v1", "v3", "v4", "v6", "v7", "v9"]
    assert rows[1]["captions"] == ["1 dogs", "2 dogs"]
    change = {"before": "1", "after": "2", "at": 0}
    assert rows[1]["edits"] == [{"kind": "count", **change, "changes": [change]}]
    assert summary is not None
    assert (summary["starts"], summary["chains"]) == (10, 7)
    assert summary["lengths"] == {"2": 7}
    assert summary["kinds"] == {"count": 7}
    assert summary["failures"] == {"too few details": 3, "dropped: fewer than 2 captions": 3}
    assert json.loads((tmp_path / "chains.jsonl.summary.json").read_text()) == summary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chains.jsonl", "chains.jsonl.summary.json"]


def test_a_finished_file_is_not_made_again_unless_settings_differ(tmp_path: Path) -> None:
    output = tmp_path / "chains.jsonl"
    first = write(output, Numbers())
    again = Numbers()
    assert write(output, again) == first
    assert again.made == []
    with pytest.raises(ValueError, match=r"chains.jsonl was made with other settings than these: seed was 1 and is 2"):
        write(output, again, header={"seed": 2})
    assert again.made == []
    write(output, again, header={"seed": 2}, overwrite=True)
    assert again.made == list(range(10))


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    output = tmp_path / "chains.jsonl"
    output.write_text("by hand\n")
    with pytest.raises(ValueError, match="was not written by this command"):
        write(output, Numbers())
    assert output.read_text() == "by hand\n"


@pytest.mark.parametrize("worlds", [(1, 1), (1, 3), (2, 3)])
def test_a_killed_run_goes_on_with_any_number_of_processes(tmp_path: Path, worlds: tuple[int, int]) -> None:
    whole = tmp_path / "whole.jsonl"
    write(whole, Numbers())
    output = tmp_path / "chains.jsonl"
    done: list[int] = []
    for rank in range(worlds[0]):
        killed = Numbers(most=1)
        with pytest.raises(Killed):
            write(output, killed, rank=rank, world=worlds[0])
        done += killed.made
        with (tmp_path / "chains.jsonl.parts" / f"{rank}.jsonl").open("a") as file:
            file.write('{"units": [')  # what a kill leaves of a line
    assert not output.exists()
    results = []
    for rank in range(worlds[1]):
        degrader = Numbers()
        results.append(write(output, degrader, rank=rank, world=worlds[1]))
        assert not set(degrader.made) & set(done)
        done += degrader.made
    assert sorted(done) == list(range(10))
    assert results[:-1] == [None] * (worlds[1] - 1)
    assert output.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "chains.jsonl.parts").exists()


def test_parts_of_other_settings_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "chains.jsonl"
    with pytest.raises(Killed):
        write(output, Numbers(most=1))
    with pytest.raises(ValueError, match=r"begun with other settings.*seed was 1 and is 2.*remove the folder"):
        write(output, Numbers(), header={"seed": 2})
    with pytest.raises(ValueError, match="rank must be 0 to 1"):
        write(output, Numbers(), rank=2, world=2)


def test_short_chains_are_dropped(tmp_path: Path) -> None:
    summary = write(tmp_path / "chains.jsonl", Numbers(), shortest=3)
    assert summary is not None
    assert summary["chains"] == 0
    assert summary["failures"]["dropped: fewer than 3 captions"] == 10
