"""VICR (Narins et al. 2023): ratings of captions of COCO's and Flickr's pictures, as CSV."""

import csv
from pathlib import Path

from rlcap.data.judgments.judged import JudgedCaption, Judgments, rating_of
from rlcap.data.splits import split_name


def read(path: Path, images: Path) -> Judgments:
    """The judgments of a file with `image`, `caption`, `subset`, `ratings` and `rating_2` to `rating_7`.

    Pictures are given by address, of which the last part is a file of `images`. Raises ValueError naming the line.
    """
    judged = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"image", "caption", "subset", "ratings"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}; it is not VICR's CSV format")
        columns = ["ratings", *(name for name in reader.fieldnames or () if name.startswith("rating_"))]
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            ratings = tuple(rating_of(row[name], where) for name in columns if row[name])
            if not ratings or not row["image"]:
                raise ValueError(f"{where} has no {'picture' if ratings else 'ratings'}")
            name = row["image"].rpartition("/")[2]
            pictures = (str(images / name),)
            judged.append(JudgedCaption(Path(name).stem, pictures, row["caption"], ratings, split_name(row["subset"])))
    return Judgments(judged)
