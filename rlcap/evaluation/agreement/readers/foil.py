"""FOIL (Shekhar et al. 2017): COCO captions against the same captions with one wrong word.

The real files were not at hand: tested on small files of their layout.
"""

from rlcap.data.annotation_files import find, picture_folder, read_json
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Pair
from rlcap.evaluation.agreement.readers import Reading

NAME = "foil"
PROTOCOL = (
    "accuracy over every pair of a caption and its foil; references are COCO's without that caption, all of them "
    "(4-ref) or the first (1-ref) (Polos). Not as PAC-S measures, which takes one pair a picture, of some 8,000 "
    "pictures that its encoder was not trained on: pictures can be named (--only-images), which pair it takes is not "
    "known"
)


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `foilv1.0_test_2017.json` and COCO's `captions_val2014.json`; pictures in `images/`.

    FOIL's annotations have `id` (a caption and its foils share it), `image_id`, `caption` and `foil` (true or false).
    Raises ValueError for a foil without its caption.
    """
    path = find(data, ("foilv1.0_test_2017.json",), "FOIL")
    coco = find(data, ("captions_val2014.json",), "COCO's captions")
    references: dict[int, list[str]] = {}
    for annotation in read_json(coco)["annotations"]:
        references.setdefault(annotation["image_id"], []).append(annotation["caption"])
    document = read_json(path)
    files = {image["id"]: image["file_name"] for image in document["images"]}
    originals = {one["id"]: one["caption"] for one in document["annotations"] if not one["foil"]}
    folder = picture_folder(data, reading.images, ("images", "val2014"))
    numbers: dict[tuple[str, str, tuple[str, ...]], int] = {}
    candidates: list[Candidate] = []
    pairs: list[Pair] = []
    for one in document["annotations"]:
        if not one["foil"]:
            continue
        if one["id"] not in originals or one["image_id"] not in references or one["image_id"] not in files:
            raise ValueError(f"{path}: the foil {one['id']} has no caption, no picture or no references")
        original, image_id = originals[one["id"]], str(one["image_id"])
        visual = {"image": str(folder / files[one["image_id"]])}
        kept = tuple(text for text in references[one["image_id"]] if text != original)
        sides = []
        for caption in (original, one["caption"]):
            number = numbers.setdefault((image_id, caption, kept), len(candidates))
            if number == len(candidates):
                candidates.append(Candidate(image_id, caption, kept, visual))
            sides.append((number,))
        pairs.append(Pair(sides[0], sides[1], image_id))
    if not pairs:
        raise ValueError(f"{path} holds no foil")
    return Benchmark(NAME, candidates, pairs, PROTOCOL)
