"""Flickr8k-Expert (Hodosh, Young, Hockenmaier 2013): captions of photographs with three ratings, 1 to 4, each."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rlcap.data.annotation_files import find, tab_separated
from rlcap.data.flickr8k_captions import caption_of, flickr8k_captions, references_of
from rlcap.data.judgments.judged import JudgedCaption, Judgments, rating_of

FILE = "ExpertAnnotations.txt"


class ExpertRow(NamedTuple):
    """A line of the annotations: a photograph's file, its own captions, the caption that was rated, the ratings."""

    image: str
    references: tuple[str, ...]
    caption: str
    ratings: tuple[float, ...]


def expert_rows(data: str) -> Iterator[ExpertRow]:
    """The rows of the folder with `ExpertAnnotations.txt` and Flickr8k's captions.

    Rows that rate one of the photograph's own captions are left out, as in all published numbers (158 of 5,822). A
    line: picture, caption id, three ratings, between tabs. Raises ValueError naming the line, or what is missing.
    """
    path = find(data, (FILE,), "Flickr8k-Expert")
    captions = flickr8k_captions(data)
    for (image, caption_id, *ratings), where in tab_separated(path, 5):
        references, caption = references_of(image, captions, where), caption_of(caption_id, captions, where)
        if caption not in references:
            yield ExpertRow(image, tuple(references), caption, tuple(rating_of(own, where) for own in ratings))


def read(folder: Path, images: Path) -> Judgments:
    """The judgments of the folder; photographs are files of `images`."""
    return Judgments(
        [
            JudgedCaption(Path(row.image).stem, (str(images / row.image),), row.caption, row.ratings)
            for row in expert_rows(str(folder))
        ]
    )
