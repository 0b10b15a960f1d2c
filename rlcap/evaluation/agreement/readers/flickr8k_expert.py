"""Flickr8k-Expert (Hodosh, Young, Hockenmaier 2013): 5,664 captions of photographs, three ratings from 1 to 4 each."""

from pathlib import Path

from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, rated
from rlcap.evaluation.agreement.readers import Reading
from rlcap.evaluation.agreement.readers.clipscore_json import read_clipscore_json
from rlcap.evaluation.agreement.readers.files import find, number_of, picture_folder, tab_separated
from rlcap.evaluation.agreement.readers.flickr8k_captions import caption_of, flickr8k_captions, references_of

NAME = "flickr8k-expert"
PROTOCOL = (
    "every single rating is a sample (16,992); captions that are a reference of the picture itself are left out; five "
    "references; τ-c is the headline, τ-b beside it (CLIPScore, PAC-S)"
)


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `ExpertAnnotations.txt` and Flickr8k's captions, or CLIPScore's `flickr8k.json`.

    A line of the annotations: picture, caption id, three ratings, between tabs. Raises ValueError naming the line.
    """
    if Path(data).is_file():
        return read_clipscore_json(Path(data), NAME, PROTOCOL, reading.images)
    path = find(data, ("ExpertAnnotations.txt", "flickr8k.json"), "Flickr8k-Expert")
    if path.suffix == ".json":
        return read_clipscore_json(path, NAME, PROTOCOL, reading.images)
    captions = flickr8k_captions(data)
    folder = picture_folder(data, reading.images)
    found: dict[tuple[str, str], tuple[Candidate, list[float]]] = {}
    for (image, caption_id, *ratings), where in tab_separated(path, 5):
        references = references_of(image, captions, where)
        caption = caption_of(caption_id, captions, where)
        if caption in references:
            continue
        image_id = Path(image).stem
        candidate = Candidate(image_id, caption, tuple(references), {"image": str(folder / image)})
        found.setdefault((image_id, caption), (candidate, []))[1].extend(number_of(own, where) for own in ratings)
    return rated(NAME, found, PROTOCOL, str(path))
