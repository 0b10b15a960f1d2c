"""Scores of many captions: shared out, gone on with after a kill, the same whatever the number of processes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlcap.evaluation.score_file import write_scores
from rlcap.evaluation.scoring import Item, in_batches

HEADER = {"reward": {"name": "words"}}


class Words:
    """Counts words, and the captions that it is handed; stops like a kill after so many calls."""

    __name__ = "words"
    needs: frozenset[str] = frozenset({"references"})

    def __init__(self, stop_after: int = 1000) -> None:
        self.seen: list[str] = []
        self.calls, self.stop_after = 0, stop_after

    def __call__(self, completions: Sequence[Any], *, references: Any, **columns: Any) -> list[float | None]:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        self.seen += completions
        return [None if text == "no value" else len(text.split()) / 3 for text in completions]


def items(number: int = 20) -> list[Item]:
    return [Item(f"i{n // 2}", "no value" if n == 3 else "word " * (n + 1), ("reference",)) for n in range(number)]


def test_batches_keep_pictures_together_and_their_references_apart() -> None:
    one, other = ("r",), ("s",)
    given = [Item("a", "1", one), Item("b", "2", one), Item("a", "3", one), Item("a", "4", other), Item("b", "5", one)]
    assert in_batches(given, 2) == [[0, 2], [1, 4], [3]]
    assert in_batches(given, 10) == [[0, 2, 1, 4], [3]]
    assert in_batches(given, 1) == [[0, 2], [1, 4], [3]]
    with pytest.raises(ValueError, match="batch size is 0"):
        in_batches(given, 0)


class Clips:
    """Says which rows are clips."""

    __name__ = "clips"
    needs = frozenset({"images"})

    def __call__(self, completions: Sequence[Any], *, is_clip: Any, **columns: Any) -> list[float]:
        return [float(own) for own in is_clip]


def test_clips_are_told_from_pictures_whatever_their_frames(tmp_path: Path) -> None:
    path = str(tmp_path / "0.png")
    Image.new("RGB", (4, 4)).save(path)
    visuals = [{"image": path}, {"frames": [path]}, {"frames": [path, path]}]
    given = [Item(f"i{n}", "word", visual=visual) for n, visual in enumerate(visuals)]
    result = write_scores(Clips(), given, tmp_path / "scores.json", HEADER, batch_size=4)
    assert [row["score"] for row in result["scores"]] == [0, 1, 1]


def test_one_process(tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    result = write_scores(Words(), items(), output, HEADER, batch_size=4)
    assert result == json.loads(output.read_text())
    assert result["header"] == {"format": "rlcap scores 1", **HEADER}
    assert (result["captions"], result["scored"]) == (20, 19)
    assert result["scores"][3] == {"image_id": "i1", "caption": "no value", "score": None}
    assert result["scores"][4]["score"] == 5 / 3
    assert result["mean"] == pytest.approx((sum(range(1, 21)) - 4) / 3 / 19)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    again = Words()
    assert write_scores(again, items(), output, HEADER, batch_size=4) == result
    assert not again.seen


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    killed = Words(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        write_scores(killed, items(), output, HEADER, batch_size=4)
    assert not output.exists()
    part = tmp_path / "scores.json.parts" / "0.jsonl"
    part.write_bytes(part.read_bytes()[:-5])  # killed while it wrote: the last batch is lost
    going_on = Words()
    result = write_scores(going_on, items(), output, HEADER, batch_size=4)
    assert len(going_on.seen) == 20 - 8
    assert result is not None
    whole = write_scores(Words(), items(), tmp_path / "whole.json", HEADER, batch_size=4)
    assert result == whole
    assert not part.parent.exists()


def test_ranks_share_the_work_and_the_last_one_joins(tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    ranks = [Words() for _ in range(3)]
    results = [
        write_scores(ranks[rank], items(), output, HEADER, rank=rank, world=3, batch_size=4) for rank in (2, 0, 1)
    ]
    assert results[:2] == [None, None]
    assert sum(len(rank.seen) for rank in ranks) == 20
    assert all(rank.seen for rank in ranks)
    assert results[2] == write_scores(Words(), items(), tmp_path / "one.json", HEADER, batch_size=4)


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    first = Words()
    assert write_scores(first, items(), output, HEADER, rank=1, world=2, batch_size=4) is None
    rest = Words()
    assert write_scores(rest, items(), output, HEADER, batch_size=4) is not None
    assert len(first.seen) + len(rest.seen) == 20


def test_parts_of_other_settings_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    write_scores(Words(), items(), output, HEADER, rank=1, world=2, batch_size=4)
    with pytest.raises(ValueError, match=r"1.jsonl was begun with other settings than these: reward.name was 'words'"):
        write_scores(Words(), items(), output, {"reward": {"name": "letters"}}, batch_size=4)


def test_what_is_finished_is_replaced_only_when_asked(tmp_path: Path) -> None:
    output, other = tmp_path / "scores.json", {"reward": {"name": "words", "times": 2}}
    result = write_scores(Words(), items(), output, {"reward": {"name": "words", "times": 1}})
    with pytest.raises(ValueError, match=r"scores.json was made with other .*: reward.times was 1 and is 2; choose"):
        write_scores(Words(), items(), output, other)
    assert json.loads(output.read_text()) == result
    write_scores(Words(), items(), output, other, rank=1, world=2, batch_size=4, overwrite=True)
    assert json.loads(output.read_text()) == result
    write_scores(Words(), items(), output, other, batch_size=4)  # goes on with what was begun
    assert json.loads(output.read_text())["header"]["reward"] == other["reward"]
    output.write_text('{"header": "of somebody else"}')
    with pytest.raises(ValueError, match="was not written by this command"):
        write_scores(Words(), items(), output, other)


class Width(Words):
    __name__ = "width"
    needs = frozenset({"images"})

    def __call__(self, completions: Sequence[Any], *, images: Any, **columns: Any) -> list[float | None]:
        return [float(image.width) for image in images]


def test_broken_pictures_are_listed_and_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        Image.new("RGB", (number + 1, 2)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    given = [Item(f"i{n}", text, (), {"image": str(tmp_path / f"{n}.png")}) for n in range(4) for text in ("x", "y")]
    output = tmp_path / "scores.json"
    result = write_scores(Width(), given, output, HEADER, batch_size=4, max_bad_images=0.25)
    assert "rlcap: skipped a picture: " in capsys.readouterr().err
    assert result is not None
    assert [row["score"] for row in result["scores"]] == [1, 1, 2, 2, None, None, 4, 4]
    assert list(result["bad_images"]) == [str(tmp_path / "2.png")]
    with pytest.raises(ValueError, match="1 of 4 pictures cannot be decoded"):
        write_scores(Width(), given, tmp_path / "strict.json", HEADER, max_bad_images=0)


def test_broken_pictures_of_all_ranks_are_limited_together(tmp_path: Path) -> None:
    """Two ranks at a time, each of which finds one broken picture, and does not see the other's."""
    for number in range(4):
        Image.new("RGB", (number + 1, 2)).save(tmp_path / f"{number}.png")
    given = [Item(f"i{n}", "x", (), {"image": str(tmp_path / f"{n}.png")}) for n in range(4)]
    for broken in (1, 2):
        (tmp_path / f"{broken}.png").write_bytes(b"no picture")
    output = tmp_path / "scores.json"

    class WhileAnotherRankScores(Width):
        def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
            if not self.calls:
                write_scores(Width(), given, output, HEADER, rank=1, world=2, batch_size=1, max_bad_images=0.25)
            self.calls += 1
            return super().__call__(completions, **columns)

    with pytest.raises(ValueError, match="2 of 4 pictures cannot be decoded, more than the 1 that"):
        write_scores(
            WhileAnotherRankScores(), given, output, HEADER, rank=0, world=2, batch_size=1, max_bad_images=0.25
        )
    assert not output.exists()
    result = write_scores(Width(), given, output, HEADER, batch_size=1, max_bad_images=0.5)
    assert result is not None
    assert result["scored"] == 2
