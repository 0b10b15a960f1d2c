"""Flickr8k-CF: 47,830 captions of 1,000 photographs, each with the share of three or more workers who accept it.

The real annotations were not at hand: tested on small files of their layout.
"""

from pathlib import Path

from rlcap.data.annotation_files import find, number_of, picture_folder, tab_separated
from rlcap.data.flickr8k_captions import caption_of, flickr8k_captions, references_of
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Found, rated
from rlcap.evaluation.agreement.readers import Reading
from rlcap.evaluation.agreement.readers.clipscore_json import read_clipscore_json

NAME = "flickr8k-cf"
PROTOCOL = (
    "the rating is the share of Yes votes; a picture's references are those of its captions that were not judged; τ-b "
    "is the headline (CLIPScore)"
)


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `CrowdFlowerAnnotations.txt` and Flickr8k's captions, or CLIPScore's JSON.

    A line of the annotations: picture, caption id, share of Yes, number of Yes, number of No, between tabs. Raises
    ValueError naming the line.
    """
    if Path(data).is_file():
        return read_clipscore_json(Path(data), NAME, PROTOCOL, reading.images)
    path = find(data, ("CrowdFlowerAnnotations.txt", "crowdflower_flickr8k.json"), "Flickr8k-CF")
    if path.suffix == ".json":
        return read_clipscore_json(path, NAME, PROTOCOL, reading.images)
    captions = flickr8k_captions(data)
    folder = picture_folder(data, reading.images)
    judged: dict[str, list[tuple[str, float]]] = {}
    for (image, caption_id, share, _, _), where in tab_separated(path, 5):
        references_of(image, captions, where)
        judged.setdefault(image, []).append((caption_of(caption_id, captions, where), number_of(share, where)))
    found: Found = {}
    for image, rows in judged.items():
        own = {caption for caption, _ in rows}
        references = tuple(reference for reference in captions[image] if reference not in own)
        for caption, share_of_yes in rows:
            candidate = Candidate(Path(image).stem, caption, references, {"image": str(folder / image)})
            found.setdefault((candidate.image_id, caption), (candidate, []))[1].append(share_of_yes)
    return rated(NAME, found, PROTOCOL, str(path))
