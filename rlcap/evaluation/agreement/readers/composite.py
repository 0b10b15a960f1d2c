"""Composite (Aditya et al. 2015): captions of Flickr8k, Flickr30k and COCO pictures rated 1 to 5 for correctness.

The real files were not at hand: the layout is that which published readers of them expect, and is tested on small
files made so.
"""

import csv
from difflib import SequenceMatcher
from pathlib import Path, PurePosixPath

from rlcap.data.annotation_files import find, number_of, picture_folder, read_json
from rlcap.data.karpathy import read_karpathy
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Found, rated
from rlcap.evaluation.agreement.readers import Reading
from rlcap.evaluation.agreement.readers.clipscore_json import read_clipscore_json

NAME = "composite"
PROTOCOL = (
    "three captions a picture (12k ratings), the first of them a person's; the reference that is nearest to it is "
    "taken out of the references; τ-b and τ-c (CLIPScore)"
)
# part -> its file of ratings, of captions, and how many captions a row has.
PARTS = {
    "flickr8k": ("8k_correctness.csv", "dataset_flickr8k.json", 3),
    "flickr30k": ("30k_correctness.csv", "dataset_flickr30k.json", 4),
    "coco": ("coco_correctness.csv", "dataset_coco.json", 4),
}
USED = 3  # captions of a row: all published work leaves the fourth out
URL = 27  # the column of the picture's address, behind those of Mechanical Turk; captions follow, then ratings


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with the three CSV files (`;` between fields) and Karpathy's JSON files, or one JSON file.

    The JSON file has CLIPScore's layout. Pictures lie in `images/flickr8k`, `images/flickr30k` and `images/coco`, or
    all in `images/`. Raises ValueError naming the file and line.
    """
    if Path(data).is_file():
        return read_clipscore_json(Path(data), NAME, PROTOCOL, reading.images)
    found: Found = {}
    for part, (ratings, captions, count) in PARTS.items():
        pictures = _pictures(find(data, (captions,), "the captions of Composite"))
        folder = picture_folder(data, reading.images)
        folder = folder / part if (folder / part).is_dir() else folder
        _read_part(find(data, (ratings,), "Composite"), part, count, pictures, folder, found)
    return rated(NAME, found, PROTOCOL, data)


def _pictures(path: Path) -> dict[int, tuple[str, list[str]]]:
    """Number of a picture -> its path and captions; the numbers are what addresses and file names have in common."""
    return {
        _number(row.image_id, str(path)): (row.visual, row.references)
        for row in read_karpathy(read_json(path), str(path))
    }


def _number(name: str, where: str) -> int:
    """The number in COCO_val2014_000000000042, 1000268201_693b08cb0e, 1000092795 or 42."""
    parts = name.split("_")
    digits = parts[-1] if parts[0] == "COCO" else parts[0]
    if not digits.isdigit():
        raise ValueError(f"{where}: the picture {name!r} has no number in its name")
    return int(digits)


def _read_part(
    path: Path,
    part: str,
    count: int,
    pictures: dict[int, tuple[str, list[str]]],
    folder: Path,
    found: Found,
) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, row in enumerate(csv.reader(file, delimiter=";"), start=1):
            where = f"{path}: row {line}"
            if line == 1 or len(row) <= URL or not row[URL].strip():  # the head, and empty rows at the end
                continue
            if len(row) < URL + 1 + 2 * count:
                raise ValueError(f"{where} has {len(row)} fields; {URL + 1 + 2 * count} are expected")
            number = _number(PurePosixPath(row[URL].strip()).stem, where)
            if number not in pictures:
                raise ValueError(f"{where}: the picture {row[URL]} has no captions in Karpathy's file")
            visual, references = pictures[number]
            kept = tuple(_without_nearest(references, row[URL + 1]))
            image = folder / visual if (folder / visual).is_file() else folder / PurePosixPath(visual).name
            for position in range(USED):
                caption = row[URL + 1 + position]
                rating = number_of(row[URL + 1 + count + position], where)
                candidate = Candidate(f"{part}-{number}", caption, kept, {"image": str(image)})
                found.setdefault((candidate.image_id, caption), (candidate, []))[1].append(rating)


def _without_nearest(references: list[str], caption: str) -> list[str]:
    """The references without the one most like the caption: it is that caption, up to spelling and punctuation."""
    words = caption.lower().split()
    likeness = [SequenceMatcher(None, words, reference.lower().split()).ratio() for reference in references]
    nearest = likeness.index(max(likeness))
    return [reference for number, reference in enumerate(references) if number != nearest]
