"""What people said of captions: ratings, or which of two is the better one."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.data.karpathy import read_karpathy
from rlcap.data.rows import shown
from rlcap.data.splits import split_name

FORMATS = ("flickr8k-expert", "vicr", "jsonl")
EXPERT_FILE, EXPERT_CAPTIONS = "ExpertAnnotations.txt", "dataset_flickr8k.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class JudgedCaption:
    """A caption for a picture. `ratings`, one a person, are empty where it was only compared; `image` is a path."""

    image_id: str
    image: str
    caption: str
    ratings: tuple[float, ...] = ()
    split: str | None = None

    @property
    def rating(self) -> float:
        """The mean rating; NaN without ratings."""
        return sum(self.ratings) / len(self.ratings) if self.ratings else math.nan


@dataclass(frozen=True)
class Judgments:
    """Captions that were rated or compared; preferences are (better, worse), as indices into `captions`."""

    captions: list[JudgedCaption] = field(default_factory=list)
    preferences: list[tuple[int, int]] = field(default_factory=list)

    def of(self, split: str) -> "Judgments":
        """The captions of a split, and the preferences among them."""
        kept = [i for i, caption in enumerate(self.captions) if caption.split == split]
        new = {old: i for i, old in enumerate(kept)}
        pairs = [(new[a], new[b]) for a, b in self.preferences if a in new and b in new]
        return Judgments([self.captions[i] for i in kept], pairs)


def read_judgments(source: str | Path, format: str = "auto", images: str | Path | None = None) -> Judgments:
    """The judgments of a file or folder.

    flickr8k-expert: the folder with ExpertAnnotations.txt and dataset_flickr8k.json. vicr: a CSV file with `image`,
    `caption`, `subset`, `ratings` and `rating_2` to `rating_7`. jsonl: a line with `image`, `caption` and `ratings` (a
    list, or `rating`), or with `image`, `better` and `worse`; `image_id` and `split` may stand beside them.
    images: folder of the pictures; by default the source's own (of Flickr8k `images` in it). Raises ValueError naming
    the line that is wrong.
    """
    source = Path(source)
    if format == "auto":
        format = "flickr8k-expert" if source.is_dir() else "vicr" if source.suffix == ".csv" else "jsonl"
    if format not in FORMATS:
        raise ValueError(f"data_format is {format!r}; it can be auto, {', '.join(FORMATS)}")
    if format == "flickr8k-expert":
        return _flickr8k_expert(source, Path(images) if images else source / "images")
    folder = Path(images) if images else source.parent
    return _vicr(source, folder) if format == "vicr" else _jsonl(source, folder)


def split_by_picture(judgments: Judgments, sizes: list[float], seed: int) -> Judgments:
    """The judgments with `split` set such that all captions of a picture are in one split.

    sizes: of train, val and test, in pictures or, where none is above 1, as shares. Pictures beyond the sizes are left
    out. Where the source says splits itself, these stay. Raises ValueError where a picture stands in two splits, a row
    has no split while others do, a split stays empty, or there are fewer pictures than asked for.
    """
    if any(caption.split is not None for caption in judgments.captions):
        _check_disjoint(judgments)
        return judgments
    ids = sorted({caption.image_id for caption in judgments.captions})
    counts = [round(size * len(ids)) for size in sizes] if max(sizes) <= 1 else [int(size) for size in sizes]
    if sum(counts) > len(ids) or min(counts) < 1:
        raise ValueError(
            f"split is {sizes}: {' + '.join(map(str, counts))} pictures; there are {len(ids)}, and each split needs one"
        )
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    names = [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    split_of = {ids[place]: name for place, name in zip(shuffled, names, strict=False)}
    return Judgments(
        [replace(caption, split=split_of.get(caption.image_id)) for caption in judgments.captions],
        judgments.preferences,
    )


def _check_disjoint(judgments: Judgments) -> None:
    splits: dict[str, set[str | None]] = {}
    for caption in judgments.captions:
        splits.setdefault(caption.image_id, set()).add(caption.split)
    torn = [image_id for image_id, names in splits.items() if len(names) > 1]
    if torn:
        raise ValueError(
            f"{len(torn)} pictures stand in more than one split, such as {torn[0]} in "
            f"{' and '.join(sorted(map(str, splits[torn[0]])))}: what is learned on a picture would be tested on it"
        )
    absent = sorted(set(SPLITS) - {name for names in splits.values() for name in names if name})
    if absent:
        raise ValueError(f"no row is of the split {', '.join(absent)}; leave `split` out of all rows to have one made")


def _flickr8k_expert(folder: Path, images: Path) -> Judgments:
    """Flickr8k-Expert (Hodosh, Young, Hockenmaier 2013): three ratings, 1 to 4, a row.

    Rows that rate a picture's own caption are left out, as in all published numbers (158 of 5,822).
    """
    captions, annotations = folder / EXPERT_CAPTIONS, folder / EXPERT_FILE
    for path in (captions, annotations):
        if not path.is_file():
            raise ValueError(f"{path} is missing; Flickr8k-Expert is read from {EXPERT_FILE} and {EXPERT_CAPTIONS}")
    document = json.loads(captions.read_text(encoding="utf-8"))
    of_image = {row.image_id: row.references for row in read_karpathy(document, str(captions))}
    judged = []
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{annotations}: line {number}"
        fields = line.split("\t")
        if len(fields) != 5:
            raise ValueError(f"{where} has {len(fields)} fields: picture, caption id and three ratings are expected")
        name, (origin, _, place) = fields[0], fields[1].partition("#")
        own = of_image.get(Path(origin).stem)
        if own is None or not place.isdigit() or int(place) >= len(own):
            raise ValueError(f"{where} names the caption {fields[1]!r}, which {captions.name} does not have")
        if origin != name:
            ratings = tuple(_number(value, where) for value in fields[2:])
            judged.append(JudgedCaption(Path(name).stem, str(images / name), own[int(place)], ratings))
    return Judgments(judged)


def _vicr(path: Path, images: Path) -> Judgments:
    """VICR (Narins et al. 2023) as CSV: pictures by address, of which the last part is looked up in `images`."""
    judged = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"image", "caption", "subset", "ratings"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}; it is not VICR's CSV format")
        columns = ["ratings", *(name for name in reader.fieldnames or () if name.startswith("rating_"))]
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            ratings = tuple(_number(row[name], where) for name in columns if row[name])
            if not ratings or not row["image"]:
                raise ValueError(f"{where} has no {'picture' if ratings else 'ratings'}")
            name = row["image"].rpartition("/")[2]
            split = split_name(row["subset"])
            judged.append(JudgedCaption(Path(name).stem, str(images / name), row["caption"], ratings, split))
    return Judgments(judged)


def _jsonl(path: Path, images: Path) -> Judgments:
    judgments = Judgments()
    compared: dict[tuple[str, str, str | None], int] = {}
    for where, item in _lines(path):
        image, image_id, split = item.get("image"), item.get("image_id"), item.get("split")
        if (
            not isinstance(image, str)
            or not isinstance(image_id, str | int | None)
            or not isinstance(split, str | None)
        ):
            raise ValueError(f'{where}: "image" must be a path; "image_id" and "split", if there, are texts')
        visual = (
            str(image_id) if image_id is not None else Path(image).stem,
            str(images / image),
            None if split is None else split_name(split),
        )
        if "better" in item or "worse" in item:
            pair = []
            for key in ("better", "worse"):
                caption = _text(item, key, where)
                place = compared.setdefault((visual[0], caption, visual[2]), len(judgments.captions))
                if place == len(judgments.captions):
                    judgments.captions.append(JudgedCaption(visual[0], visual[1], caption, split=visual[2]))
                pair.append(place)
            judgments.preferences.append((pair[0], pair[1]))
            continue
        given = item.get("ratings", [item["rating"]] if "rating" in item else None)
        if not isinstance(given, list) or not given:
            raise ValueError(f'{where} has neither "ratings" (a list) nor "rating" nor "better" and "worse"')
        ratings = tuple(_number(value, where) for value in given)
        judgments.captions.append(
            JudgedCaption(visual[0], visual[1], _text(item, "caption", where), ratings, visual[2])
        )
    return judgments


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}: line {number}"
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} is not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(item, dict):
                raise ValueError(f"{where} must be an object, not {shown(item)}")
            yield where, item


def _text(item: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(item.get(key), str):
        raise ValueError(f'{where}: "{key}" must be a text, not {shown(item.get(key))}')
    return item[key]


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: the rating {shown(value)} is no number")
    return number
