"""The JSON layout in which CLIPScore's and PAC-S's code keep rated captions (flickr8k.json and the like)."""

import math
from pathlib import Path, PurePosixPath
from typing import Any

from rlcap.data.annotation_files import number_of, picture_folder, read_json
from rlcap.data.rows import shown, text_list
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Found, rated


def read_clipscore_json(path: Path, name: str, protocol: str, images: Path | None) -> Benchmark:
    """Ratings from {image id: {image_path, ground_truth: [...], human_judgement: [{caption, rating}, ...]}}.

    The ratings of one caption of a picture are its raters'; NaN is no rating. Of `image_path` the file's name counts,
    under `images` (default: `images/` beside the file). Raises ValueError naming the picture whose entry is wrong.
    """
    document = read_json(path)
    folder = picture_folder(str(path), images)
    found: Found = {}
    if not isinstance(document, dict):
        raise ValueError(f"{path} must be an object with a key for each picture, not {shown(document)}")
    for image_id, entry in document.items():
        where = f'{path}: "{image_id}"'
        references = tuple(text_list(_key(entry, "ground_truth", where), where, "ground_truth"))
        file = PurePosixPath(str(_key(entry, "image_path", where))).name
        for judged in _key(entry, "human_judgement", where):
            caption, rating = _key(judged, "caption", where), number_of(_key(judged, "rating", where), where)
            if math.isnan(rating):
                continue
            candidate = Candidate(image_id, caption, references, {"image": str(folder / file)})
            found.setdefault((image_id, caption), (candidate, []))[1].append(rating)
    return rated(name, found, protocol, str(path))


def _key(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f'{where} has no "{key}"; it is {shown(entry)}')
    return entry[key]
