"""Reading what people said of captions, and splitting it by picture."""

import json
import math
from pathlib import Path

import pytest

from rlcap.data.judgments import JudgedCaption, Judgments, read_judgments, split_by_picture

VICR = """image,caption,subset,num_ratings,ratings,rating_2,rating_3
http://images.example.org/val2014/COCO_val2014_000000000192.jpg,"a player, throwing",train,3,4,3,5
http://images.example.org/val2014/COCO_val2014_000000000802.jpg,a bathroom .,val,2,2,1,
"""


def test_flickr8k_expert_without_own_captions(tmp_path: Path) -> None:
    images = [
        {"filename": f"{name}.jpg", "split": "test", "sentences": [{"raw": f"{name}, {k}"} for k in range(5)]}
        for name in ("one", "two")
    ]
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    (tmp_path / "images").mkdir()
    rows = "one.jpg\ttwo.jpg#2\t1\t2\t4\none.jpg\tone.jpg#0\t4\t4\t4\ntwo.jpg\tone.jpg#4\t3\t3\t3\n"
    (tmp_path / "ExpertAnnotations.txt").write_text(rows)
    first, second = read_judgments(tmp_path).captions
    assert first == JudgedCaption("one", (str(tmp_path / "images" / "one.jpg"),), "two, 2", (1, 2, 4))
    assert first.rating == pytest.approx(7 / 3)
    assert (second.image_id, second.caption) == ("two", "one, 4")
    (tmp_path / "ExpertAnnotations.txt").write_text("one.jpg\ttwo.jpg#7\t1\t2\t4\n")
    with pytest.raises(ValueError, match=r"line 1: there is no caption 'two.jpg#7' among those of Flickr8k"):
        read_judgments(tmp_path)


def test_the_real_flickr8k_expert(shared: Path) -> None:
    judgments = read_judgments(shared / "data" / "flickr8k")
    assert len(judgments.captions) == 5664  # 5,822 rows less 158 of own captions
    assert sum(len(caption.ratings) for caption in judgments.captions) == 16_992
    parts = split_by_picture(judgments, [650, 150, 200], 0)
    pictures = {split: {caption.image_id for caption in parts.of(split).captions} for split in ("train", "val", "test")}
    assert {split: len(own) for split, own in pictures.items()} == {"train": 650, "val": 150, "test": 200}
    assert not pictures["train"] & pictures["val"]
    assert not (pictures["train"] | pictures["val"]) & pictures["test"]


def test_vicr_csv(tmp_path: Path) -> None:
    (tmp_path / "vicr.csv").write_text(VICR)
    first, second = read_judgments(tmp_path / "vicr.csv", images=tmp_path / "photos").captions
    assert first.ratings == (4, 3, 5)
    assert (first.caption, first.split) == ("a player, throwing", "train")
    assert first.pictures == (str(tmp_path / "photos" / "COCO_val2014_000000000192.jpg"),)
    assert (second.ratings, second.split) == ((2, 1), "val")
    (tmp_path / "vicr.csv").write_text(VICR.replace(",4,3,5", ",4,x,5"))
    with pytest.raises(ValueError, match=r"line 2: a rating must be a number, not 'x'"):
        read_judgments(tmp_path / "vicr.csv")
    (tmp_path / "vicr.csv").write_text("image,text\n")
    with pytest.raises(ValueError, match="has no column caption, ratings, subset"):
        read_judgments(tmp_path / "vicr.csv")


def test_jsonl_of_ratings_and_of_preferences(tmp_path: Path) -> None:
    lines = [
        {"image": "a.jpg", "caption": "x", "ratings": [1, 2]},
        {"image": "a.jpg", "caption": "y", "rating": 4.5, "image_id": 7},
        {"image": "b.jpg", "better": "x", "worse": "y"},
        {"image": "b.jpg", "better": "y", "worse": "z"},
    ]
    path = tmp_path / "judged.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    judgments = read_judgments(path)
    assert [caption.image_id for caption in judgments.captions] == ["a", "7", "b", "b", "b"]
    assert [caption.rating for caption in judgments.captions[:2]] == [1.5, 4.5]
    assert math.isnan(judgments.captions[2].rating)
    assert judgments.preferences == [(2, 3), (3, 4)]  # "y" of b.jpg is one caption


def test_clips_and_objectives_as_the_data_names_them(tmp_path: Path) -> None:
    lines = [
        {"frames": ["a/0.jpg", "a/1.jpg"], "caption": " x ", "rating": [2, 4], "objectives": {"how it reads": [1, 2]}},
        {"frames": ["b/0.jpg"], "image_id": "b", "caption": "y", "rating": 1, "objectives": {"other": None}},
    ]
    path = tmp_path / "judged.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    clip, single = read_judgments(path, images=tmp_path / "clips").captions
    assert (clip.image_id, single.image_id) == ("a/0.jpg", "b")
    assert clip.pictures == (str(tmp_path / "clips/a/0.jpg"), str(tmp_path / "clips/a/1.jpg"))
    assert (clip.caption, clip.rating, clip.objectives) == ("x", 3.0, {"how it reads": 1.5})
    assert single.objectives == {}


def test_one_id_is_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text(
        '{"image": "a/x.jpg", "caption": "x", "rating": 1}\n{"image": "b/x.jpg", "caption": "y", "rating": 1}'
    )
    with pytest.raises(ValueError, match=r'the image_id "x" is .*a/x\.jpg and .*b/x\.jpg; give every picture its own'):
        read_judgments(path)


def test_comparisons_are_no_ratings(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text('{"image": "x.jpg", "better": "x", "worse": "y"}\n{"image": "x.jpg", "caption": "z", "rating": 1}')
    with pytest.raises(ValueError, match=r"2 captions of .*judged\.jsonl have no rating"):
        read_judgments(path).require_ratings(str(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"caption": "x", "rating": 1}', 'needs "image"'),
        ('{"frames": [], "caption": "x", "rating": 1}', 'or "frames" .a list of paths'),
        ('{"image": "a", "rating": 1}', '"caption" must be a text'),
        ('{"image": "a", "caption": " ", "rating": 1}', '"caption" must be a text'),
        ('{"image": "a", "caption": "x", "rating": "good"}', '"rating" must be a number'),
        ('{"image": "a", "caption": "x", "rating": NaN}', '"rating" must be a finite number'),
        ('{"image": "a", "caption": "x", "rating": 1, "objectives": {"y": true}}', '"objectives.y" must be a number'),
        ('{"image": "a", "caption": "x", "rating": 1, "objectives": [1]}', '"objectives" must be an object'),
        ('{"image": "a", "caption": "x", "rating": 1, "split": 3}', '"split" must be a text'),
        ('{"image": "a", "caption": "x"}', 'has neither "ratings"'),
        ('{"image": "a", "caption": "x", "ratings": []}', '"ratings" must be a number or a list'),
        ('{"image": "a", "caption": "x", "rating": true}', '"rating" must be a number, not True'),
        ('{"image": "a", "caption": 3, "rating": 1}', '"caption" must be a text, not 3'),
        ('{"image": "a", "better": "x"}', '"worse" must be a text, not None'),
        ('{"image"', "is not JSON"),
        ("[]", "must be an object"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text('{"image": "a", "caption": "x", "rating": 1}\n' + line)
    with pytest.raises(ValueError, match=f"line 2.*{message}"):
        read_judgments(path)


def rated(image_id: str, split: str | None = None) -> JudgedCaption:
    return JudgedCaption(image_id, (f"{image_id}.jpg",), "x", (1.0,), split)


def test_a_split_has_whole_pictures() -> None:
    judgments = Judgments([rated(f"p{i % 10}") for i in range(40)], [(0, 10), (1, 11)])
    parts = split_by_picture(judgments, [0.6, 0.2, 0.2], 3)
    sizes = {split: len(parts.of(split).captions) for split in ("train", "val", "test")}
    assert sizes == {"train": 24, "val": 8, "test": 8}
    homes = {caption.image_id: caption.split for caption in parts.captions}
    assert all(caption.split == homes[caption.image_id] for caption in parts.captions)
    assert split_by_picture(judgments, [0.6, 0.2, 0.2], 4).captions != parts.captions
    assert sum(len(parts.of(split).preferences) for split in sizes) == 2  # a preference goes with its picture
    left = split_by_picture(judgments, [3, 2, 2], 0)
    assert sum(caption.split is None for caption in left.captions) == 12
    with pytest.raises(ValueError, match=r"6 \+ 3 \+ 2 pictures; there are 10"):
        split_by_picture(judgments, [6, 3, 2], 0)


def test_a_picture_in_two_splits_is_refused() -> None:
    torn = Judgments([rated("a", "train"), rated("b", "val"), rated("c", "test"), rated("a", "test")])
    with pytest.raises(ValueError, match="1 pictures stand in more than one split, such as a in test and train"):
        split_by_picture(torn, [0.6, 0.2, 0.2], 0)
    torn = Judgments([rated("a"), rated("a", "test")])  # what names no split trains where others name one
    with pytest.raises(ValueError, match="such as a in test and train"):
        split_by_picture(torn, [0.6, 0.2, 0.2], 0)
    two = Judgments([rated("a"), rated("b", "val")])
    with pytest.raises(ValueError, match="no row is of the split test; there are train, val"):
        split_by_picture(two, [0.6, 0.2, 0.2], 0)
    parts = split_by_picture(two, [0.6, 0.2, 0.2], 0, needed=("train",))
    assert [caption.split for caption in parts.captions] == ["train", "val"]
