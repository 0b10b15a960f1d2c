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
    sentences = [{"raw": f"caption {k}"} for k in range(5)]
    images = [{"filename": f"{name}.jpg", "split": "test", "sentences": sentences} for name in ("one", "two")]
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    rows = "one.jpg\ttwo.jpg#2\t1\t2\t4\none.jpg\tone.jpg#0\t4\t4\t4\ntwo.jpg\tone.jpg#4\t3\t3\t3\n"
    (tmp_path / "ExpertAnnotations.txt").write_text(rows)
    first, second = read_judgments(tmp_path).captions
    assert first == JudgedCaption("one", str(tmp_path / "images" / "one.jpg"), "caption 2", (1, 2, 4))
    assert first.rating == pytest.approx(7 / 3)
    assert (second.image_id, second.caption) == ("two", "caption 4")
    (tmp_path / "ExpertAnnotations.txt").write_text("one.jpg\ttwo.jpg#7\t1\t2\t4\n")
    with pytest.raises(ValueError, match=r"line 1 names the caption 'two.jpg#7', which dataset_flickr8k.json does not"):
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
    assert first.image == str(tmp_path / "photos" / "COCO_val2014_000000000192.jpg")
    assert (second.ratings, second.split) == ((2, 1), "val")
    (tmp_path / "vicr.csv").write_text(VICR.replace(",4,3,5", ",4,x,5"))
    with pytest.raises(ValueError, match=r"line 2: the rating 'x' is no number"):
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"caption": "x", "rating": 1}', '"image" must be a path'),
        ('{"image": "a", "caption": "x"}', 'has neither "ratings"'),
        ('{"image": "a", "caption": "x", "ratings": []}', 'has neither "ratings"'),
        ('{"image": "a", "caption": "x", "rating": true}', "the rating True is no number"),
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
    return JudgedCaption(image_id, f"{image_id}.jpg", "x", (1.0,), split)


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
    with pytest.raises(ValueError, match="no row is of the split test"):
        split_by_picture(Judgments([rated("a", "train"), rated("b", "val")]), [0.6, 0.2, 0.2], 0)
