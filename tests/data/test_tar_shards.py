"""Tar shards as a table: places in them, columns, and that nothing of a broken shard is lost silently."""

from pathlib import Path

import fsspec
import pytest
from drawn import png, write_shards, write_tar

from rlcap.data import load_captions
from rlcap.data.collate import open_visual
from rlcap.data.columns import Columns
from rlcap.data.content import BadImage
from rlcap.data.tar_shards import expand
from rlcap.evaluation.files import read_references


def red(row: dict) -> int:
    return open_visual(row).getpixel((0, 0))[0]  # type: ignore[union-attr,index]


def test_rows_and_their_pictures(tmp_path: Path) -> None:
    write_shards(tmp_path, [3, 2])
    for source in (f"{tmp_path}/{{0..1}}.tar", f"{tmp_path}/*.tar", tmp_path, f"{tmp_path}/{{0,1}}.tar"):
        dataset = load_captions(source)
        assert dataset["image_id"][:] == [f"r{n}" for n in range(5)]
        assert dataset["references"][:] == [[f"row {n}"] for n in range(5)]
    assert list(map(red, dataset)) == list(range(5))
    assert read_references(f"{tmp_path}/*.tar", "train") == {f"r{n}": [f"row {n}"] for n in range(5)}


def test_an_fsspec_address(tmp_path: Path) -> None:
    local = write_shards(tmp_path, [2, 2])
    system = fsspec.filesystem("memory")
    for number, path in enumerate(local):
        system.pipe(f"/shards/{number}.tar", Path(path).read_bytes())
    for source in ("memory://shards/{0..1}.tar", "memory://shards/*.tar"):
        dataset = load_captions(source)
        assert list(map(red, dataset)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"memory://shards/7\.tar: there is no such tar shard"):
        load_captions("memory://shards/7.tar")


def test_columns(tmp_path: Path) -> None:
    source = write_tar(
        tmp_path / "a.tar",
        [
            ("x/p.1.png", png(1)),
            ("x/p.0.png", png(0)),
            ("x/p.json", {"about": {"en": ["a", "b"]}, "n": 7, "part": "validation", "image": "http://nowhere"}),
            ("x/p.txt", "one\ntwo\n"),
        ],
    )
    (row,) = load_captions(source)
    assert (row["image_id"], row["references"], row["split"]) == ("x/p", ["one", "two"], "train")
    assert [frame.getpixel((0, 0))[0] for frame in open_visual(row)] == [0, 1]  # type: ignore[union-attr]
    columns = Columns(references=("about.en", "txt"), id="n", split="json.part")
    (row,) = load_captions(source, split="val", columns=columns)
    assert (row["image_id"], row["references"], row["split"]) == ("7", ["a", "b", "one", "two"], "val")
    with pytest.raises(
        ValueError, match=r'there is no column "mood" \(references_column\); there are about, n, part, image, __key__'
    ):
        load_captions(source, columns=Columns(references=("mood",)))


def test_braces(tmp_path: Path) -> None:
    names = [f"{part}-{n:02d}.tar" for part in ("a", "b") for n in (8, 9, 10)]
    for name in names:
        (tmp_path / name).touch()
    assert expand(f"{tmp_path}/{{a,b}}-{{08..10}}.tar") == [str(tmp_path / name) for name in names]
    for source, message in (
        (f"{tmp_path}/{{a,c}}-08.tar", r"c-08\.tar: there are no such tar shards"),
        (f"{tmp_path}/a-{{10..8}}.tar", "goes from 10 down to 8"),
        (f"{tmp_path}/{{a,a}}-08.tar", r"names the shard .*a-08\.tar 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            expand(source)


def test_broken_shards(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [4])
    whole = Path(path).read_bytes()
    broken = tmp_path / "broken.tar"
    contents = {
        "in a file": whole[:700],
        "in a header": whole[:1300],
        "between files": whole[: 4 * 512],
        "a header overwritten": whole[:2048] + b"x" * 512 + whole[2560:],
        "no tar": b"not a tar archive" * 100,
        "empty": b"",
    }
    for content in contents.values():
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.tar (is|cannot)"):
            load_captions(broken)
    dataset = load_captions(path)
    Path(path).write_bytes(whole[:600])
    with pytest.raises(BadImage, match=r"0\.tar::r3\.png: its shard has 0 of its \d+ bytes"):
        open_visual(dataset[3])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.png", b"x")], r"a\.tar: a has no captions: name them \(--references-column\); it has __key__, png"),
        ([("a.txt", "x")], r"a\.tar: a: no column is known to be a picture"),
        ([("a.png", b"x"), ("a.json", "{")], r"a\.tar: a\.json is not JSON"),
        ([("a.png", b"x"), ("a.txt", b"\xff")], r"a\.tar: a\.txt is not text in UTF-8"),
        ([("a.png", b"x"), ("a.png", b"y")], 'two files with the ending "png"'),
        ([("a.png", b"x"), ("a.txt", "c"), ("b.png", b"x"), ("b.txt", "d"), ("a.png", b"z"), ("a.txt", "e")], '"a" is'),
    ],
)
def test_wrong_samples(tmp_path: Path, files: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_captions(write_tar(tmp_path / "a.tar", files))
