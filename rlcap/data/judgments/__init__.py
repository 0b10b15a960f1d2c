"""What people said of captions: ratings, or which of two is the better one. A module a format."""

from pathlib import Path

from rlcap.data.annotation_files import picture_folder
from rlcap.data.judgments import flickr8k_expert, jsonl, vicr
from rlcap.data.judgments.judged import JudgedCaption, Judgments
from rlcap.data.judgments.splitting import SPLITS, split_by_picture

FORMATS = ("flickr8k-expert", "vicr", "jsonl")

__all__ = ["FORMATS", "SPLITS", "JudgedCaption", "Judgments", "read_judgments", "split_by_picture"]


def read_judgments(source: str | Path, format: str = "auto", images: str | Path | None = None) -> Judgments:
    """The judgments of a file or folder, in one of FORMATS; "auto" takes a folder for Flickr8k-Expert, `.csv` for VICR.

    images: folder of the pictures; by default the source's own (of Flickr8k `images` in it). Raises ValueError naming
    the line that is wrong, and for two pictures under one id.
    """
    source = Path(source)
    if format == "auto":
        format = "flickr8k-expert" if source.is_dir() else "vicr" if source.suffix == ".csv" else "jsonl"
    if format not in FORMATS:
        raise ValueError(f"data_format is {format!r}; it can be auto, {', '.join(FORMATS)}")
    given = None if images is None else Path(images)
    if format == "flickr8k-expert":
        return flickr8k_expert.read(source, picture_folder(str(source), given))
    if not source.is_file():
        raise ValueError(f"{source}: there is no such file of judgments")
    read = vicr.read if format == "vicr" else jsonl.read
    judgments = read(source, given or source.parent)
    if not judgments.captions:
        raise ValueError(f"{source} has no rows")
    judgments.check_ids(str(source))
    return judgments
