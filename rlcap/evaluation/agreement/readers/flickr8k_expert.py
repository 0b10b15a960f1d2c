"""Flickr8k-Expert (Hodosh, Young, Hockenmaier 2013): 5,664 captions of photographs, three ratings from 1 to 4 each."""

from pathlib import Path

from rlcap.data.annotation_files import find, picture_folder
from rlcap.data.judgments.flickr8k_expert import FILE, expert_rows
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Found, rated
from rlcap.evaluation.agreement.readers import Reading
from rlcap.evaluation.agreement.readers.clipscore_json import read_clipscore_json

NAME = "flickr8k-expert"
PROTOCOL = (
    "every single rating is a sample (16,992); captions that are a reference of the picture itself are left out; five "
    "references; τ-c is the headline, τ-b beside it (CLIPScore, PAC-S)"
)


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `ExpertAnnotations.txt` and Flickr8k's captions, or CLIPScore's `flickr8k.json`.

    Raises ValueError naming the line that is wrong.
    """
    if Path(data).is_file():
        return read_clipscore_json(Path(data), NAME, PROTOCOL, reading.images)
    path = find(data, (FILE, "flickr8k.json"), "Flickr8k-Expert")
    if path.suffix == ".json":
        return read_clipscore_json(path, NAME, PROTOCOL, reading.images)
    folder = picture_folder(data, reading.images)
    found: Found = {}
    for row in expert_rows(data):
        image_id = Path(row.image).stem
        candidate = Candidate(image_id, row.caption, row.references, {"image": str(folder / row.image)})
        found.setdefault((image_id, row.caption), (candidate, []))[1].extend(row.ratings)
    return rated(NAME, found, PROTOCOL, str(path))
