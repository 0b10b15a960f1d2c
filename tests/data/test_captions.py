"""load_captions on the real files, on small ones of every layout, and on everything that can be wrong with one."""

import json
from pathlib import Path

import pytest
from PIL import Image

from rlcap.data import load_captions, require_references
from rlcap.data.columns import Columns


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path)


def write(path: Path, content: object) -> Path:
    """Write JSON, or JSON lines where `content` is a list."""
    text = "\n".join(map(json.dumps, content)) + "\n" if isinstance(content, list) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with a.png and b.png, where a captions file can go."""
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    return tmp_path


def karpathy(**more: object) -> dict:
    sentences = [{"raw": "A dog .", "tokens": ["a", "dog"]}, {"tokens": ["the", "dog"]}]
    return {"images": [{"filename": "a.png", "split": "train", "sentences": sentences, **more}], "dataset": "x"}


# Real files


@pytest.mark.parametrize(("split", "number"), [("train", 5999), ("val", 1000), ("test", 1000), (None, 8090)])
def test_flickr8k(shared: Path, split: str | None, number: int) -> None:
    dataset = load_captions(shared / "data/flickr8k/dataset_flickr8k.json", split=split)
    assert dataset.column_names == ["image_id", "image", "references", "split"]
    assert len(dataset) == len(set(dataset["image_id"])) == number
    assert all(len(references) == 5 for references in dataset["references"])
    assert all(Path(path).is_file() for path in dataset["image"])
    require_references(dataset)


def test_flickr8k_row(shared: Path) -> None:
    row = load_captions(shared / "data/flickr8k/dataset_flickr8k.json")[0]
    assert row["image_id"] == "1000268201_693b08cb0e"
    assert row["references"][1] == "A girl going into a wooden building ."


@pytest.mark.parametrize(("split", "number"), [("train", 1500), ("val", 152), ("test", 300)])
def test_msrvtt(shared: Path, split: str, number: int) -> None:
    dataset = load_captions(shared / "data/msrvtt/msrvtt.jsonl", split=split)
    assert dataset.column_names == ["image_id", "frames", "references", "split"]
    assert len(dataset) == number
    assert {len(frames) for frames in dataset["frames"]} == {4}
    assert {len(references) for references in dataset["references"]} == {20}
    assert all(Path(path).is_file() for frames in dataset["frames"] for path in frames)


def test_coco_without_photographs(shared: Path) -> None:
    source = shared / "data/coco_val2017/captions_val2017.json"
    dataset = load_captions(source, split="val", check_images=False)
    assert len(dataset) == 5000
    assert sum(len(references) for references in dataset["references"]) == 25014
    assert set(dataset["split"]) == {"val"}
    row = dataset[dataset["image_id"][:].index("179765")]
    assert Path(row["image"]).name == "000000179765.jpg"
    assert "A black Honda motorcycle parked in front of a garage." in row["references"]
    with pytest.raises(ValueError, match="check_images=False"):
        load_captions(source)


# Layouts


def test_karpathy(two: Path) -> None:
    (row,) = load_captions(write(two / "c.json", karpathy()))
    expected = {"image_id": "a", "image": str(two / "a.png"), "references": ["A dog .", "the dog"], "split": "train"}
    assert row == expected


def test_karpathy_cocoid_filepath_and_restval(tmp_path: Path) -> None:
    picture(tmp_path / "photos/val2014/a.png")
    source = write(tmp_path / "c.json", karpathy(cocoid=7, filepath="val2014", split="restval"))
    (row,) = load_captions(source, images=tmp_path / "photos", split="train")
    assert (row["image_id"], row["split"]) == ("7", "train")
    assert row["image"] == str(tmp_path / "photos/val2014/a.png")


def test_coco_splits_are_named_by_the_caller(two: Path) -> None:
    document = {
        "images": [{"id": 2, "file_name": "b.png"}, {"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "caption": "one"}, {"image_id": 1, "caption": "uno"}],
    }
    source = write(two / "c.json", document)
    assert load_captions(source)["split"][:] == ["train", "train"]
    dataset = load_captions(source, split="val")
    assert dataset["image_id"][:] == ["2", "1"]
    assert dataset["references"][:] == [[], ["one", "uno"]]
    assert dataset["split"][:] == ["val", "val"]
    with pytest.raises(ValueError, match="1 of 2 pictures have no references: 2;"):
        require_references(dataset)


@pytest.mark.parametrize("indent", [None, 1])
def test_one_layout_however_it_is_indented(two: Path, indent: int | None) -> None:
    (two / "c.json").write_text(json.dumps(karpathy(), indent=indent))
    assert load_captions(two / "c.json")["image_id"][:] == ["a"]
    (two / "d.json").write_text(json.dumps(karpathy()).replace("[", "[\n", 1))
    assert load_captions(two / "d.json")["image_id"][:] == ["a"]


def test_jsonl_keys(two: Path) -> None:
    lines = [
        {"image": "a.png", "caption": "one"},
        {"image": "b.png", "id": 5, "captions": ["two", "three"], "split": "val", "mood": "ignored"},
        {"image": "a.png", "image_id": "third", "references": []},
    ]
    dataset = load_captions(write(two / "c.jsonl", lines))
    assert dataset["image_id"][:] == ["a", "5", "third"]
    assert dataset["references"][:] == [["one"], ["two", "three"], []]
    assert dataset["split"][:] == ["train", "val", "train"]
    assert load_captions(two / "c.jsonl", split="val")["image_id"][:] == ["5"]


@pytest.mark.parametrize(
    "line", [{"video": "v", "frames": ["a.png", "b.png"]}, {"id": "v", "frames": ["a.png", "b.png"]}]
)
def test_a_single_line_of_json_is_jsonl(two: Path, line: dict) -> None:
    (row,) = load_captions(write(two / "c.jsonl", [{**line, "captions": ["x"]}]))
    assert row["image_id"] == "v"
    assert row["frames"] == [str(two / "a.png"), str(two / "b.png")]


def test_lines_of_one_picture_are_joined(two: Path) -> None:
    lines = [
        {"image": "a.png", "caption": "one"},
        {"image": "b.png", "caption": "x"},
        {"image": "a.png", "caption": "two"},
    ]
    dataset = load_captions(write(two / "c.jsonl", lines))
    assert dataset["references"][:] == [["one", "two"], ["x"]]


@pytest.mark.parametrize("name", ["images", "frames"])
def test_pictures_in_a_subfolder(tmp_path: Path, name: str) -> None:
    picture(tmp_path / name / "a.png")
    (row,) = load_captions(write(tmp_path / "c.json", karpathy()))
    assert row["image"] == str(tmp_path / name / "a.png")


def test_one_missing_file_is_no_wrong_folder(two: Path) -> None:
    lines = [{"image": "gone.png", "caption": "x"}, {"image": "a.png", "caption": "y"}]
    assert len(load_captions(write(two / "c.jsonl", lines))) == 2


def test_absolute_paths_stand(two: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    source = write(elsewhere / "c.jsonl", [{"image": str(two / "a.png"), "caption": "x"}])
    assert load_captions(source)[0]["image"] == str(two / "a.png")


def test_drop_empty(two: Path) -> None:
    source = write(two / "c.jsonl", [{"image": "a.png", "captions": [" ", "yes "]}, {"image": "b.png", "caption": ""}])
    with pytest.raises(ValueError, match=r"2 pictures have an empty caption: a, b; .*drop_empty_captions"):
        load_captions(source)
    assert load_captions(source, drop_empty=True)["references"][:] == [["yes"], []]


# Errors


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"image": "a.png", "caption": "x"}, {"image": "b.png"}], "line 2 has no captions"),
        (
            [{"image": "a.png", "caption": "x"}, {"caption": "y"}],
            'line 2 has neither "image" nor "frames" nor "video": name the key .*--image-column.*its keys are caption$',
        ),
        ([{"image": "a.png", "caption": 3}, {}], 'line 1: "caption" must be a text or a list of texts, not 3'),
        ([{"image": "a.png", "captions": ["x", None]}, {}], 'line 1: "captions" must be a text or a list'),
        ([{"image": "a.png", "caption": "x", "split": 1}, {}], 'line 1: "split" must be a text'),
        ([{"image": ["a.png"], "caption": "x"}, {}], 'line 1: "image" must be a path'),
        ([{"frames": [], "id": 1, "caption": "x"}, {}], 'line 1: "frames" must be a list of at least one path'),
        ([{"frames": ["a.png"], "caption": "x"}, {}], "line 1 is a clip without a name"),
        ([{"video": 3, "caption": "x"}, {}], 'line 1: "video" must be a path, not 3'),
        ([{"image": "a.png", "id": 1.5, "caption": "x"}, {}], 'line 1: "id" must be a text or a whole number'),
        ([{"image": "a.png", "caption": "x"}, 3], "line 2 must be an object, not 3"),
        (
            [{"image": "a.png", "id": 1, "caption": "x"}, {"image": "b.png", "id": 1, "caption": "x"}],
            "line 2: image_id \"1\" is 'b.png' here and 'a.png' at .*line 1",
        ),
        (
            [{"image": "a.png", "caption": "x"}, {"image": "a.png", "caption": "x", "split": "val"}],
            'line 2: "a" is in the split "val" here and "train" at',
        ),
        (
            [{"image": "a.png", "caption": "x"}, {"frames": ["b.png"], "id": 2, "caption": "x"}],
            r"mixes pictures \(.*line 1\) with clips \(.*line 2\)",
        ),
    ],
)
def test_wrong_lines(two: Path, lines: list, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_captions(write(two / "c.jsonl", lines))
    assert str(two / "c.jsonl") in str(error.value)


def test_keys_are_those_of_the_file(two: Path) -> None:
    source = write(two / "c.jsonl", [{"picture": "a.png", "sentence": "x"}] * 2)
    with pytest.raises(ValueError, match=r"line 1 has neither .*; its keys are picture, sentence$"):
        load_captions(source, columns=Columns(references=("sentence",)))
    with pytest.raises(
        ValueError, match=r"line 1 has no captions: .*--references-column\); its keys are picture, sent"
    ):
        load_captions(source, columns=Columns(image="picture"))


def test_a_line_cut_off(two: Path) -> None:
    (two / "c.jsonl").write_text('{"image": "a.png", "caption": "x"}\n{"image": "b.pn')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        load_captions(two / "c.jsonl")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (karpathy(filename=None), r'images\[0\]: "filename" must be a str, not None'),
        (karpathy(sentences=[{"text": "x"}]), r'images\[0\].sentences\[0\]: needs "raw"'),
        ({"images": [{"id": 1}], "annotations": []}, r'images\[0\] needs "id" and "file_name"'),
        (
            {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 2, "caption": "x"}]},
            r'annotations\[0\]: "image_id" 2 is not among "images"',
        ),
        (
            {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "bbox": []}]},
            r'annotations\[0\] needs a "caption"',
        ),
        ({"a.png": ["x"]}, r"unknown layout: an object with the keys \['a.png'\]"),
        ({"images": []}, "unknown layout"),
        ({"images": [], "annotations": []}, "has no rows"),
    ],
)
def test_wrong_documents(two: Path, document: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_captions(write(two / "c.json", document))
    assert str(two / "c.json") in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a dog\na cat\n", "is not JSON: .* nor JSON lines"),
        (b'{"images": [', "is not JSON"),
        (b"[1, 2]", "unknown layout: a list of 2 items"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
    ],
)
def test_wrong_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_captions(tmp_path / "c.json")


def test_missing_things(two: Path) -> None:
    source = write(two / "c.json", karpathy())
    with pytest.raises(ValueError, match=r"nothere\.json: there is no such captions file"):
        load_captions(two / "nothere.json")
    with pytest.raises(ValueError, match=r"is a folder: name the captions file in it \(c\.json\)"):
        load_captions(two)
    with pytest.raises(ValueError, match="photos: there is no such folder of pictures"):
        load_captions(source, images=two / "photos")
    (two / "photos").mkdir()
    with pytest.raises(ValueError, match=r"none of the first pictures of .*c\.json \(a\.png\) lies in .*photos:"):
        load_captions(source, images=two / "photos")
    with pytest.raises(ValueError, match=r'no rows in the split "val"; there are "train" \(1\)'):
        load_captions(source, split="val")
    with pytest.raises(ValueError, match='format must be one of auto, karpathy, coco, jsonl, datasets, tar, not "csv"'):
        load_captions(source, format="csv")
    with pytest.raises(ValueError, match='is not in the layout "coco": an object with the keys'):
        load_captions(source, format="coco")
