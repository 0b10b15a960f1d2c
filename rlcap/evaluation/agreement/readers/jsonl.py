"""One's own judgments as JSON lines: ratings of captions, or pairs of a better and a worse caption."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcap.data.annotation_files import json_lines, number_of, picture_folder
from rlcap.data.rows import shown, text_list
from rlcap.data.video import FrameChoice
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Found, Pair, rated
from rlcap.evaluation.agreement.readers import Reading

NAME = "jsonl"
RATED = "every single rating is a sample"
PAIRED = "accuracy over pairs"
KINDS = ("image", "frames", "video")


def read(data: str, reading: Reading) -> Benchmark:
    """From a file whose lines all have `caption` and `rating` or `ratings`, or all have `better` and `worse`.

    Beside them `image`, `frames` or `video` (paths under `images`, default: `images/` beside the file, else its
    folder), `image_id` (default: the path, and of a video with `video_frames` these too), `references`, `category` (of
    a pair), `split`, and `video_frames`. Raises ValueError naming the line, also for one `image_id` of two pictures.
    """
    path = Path(data)
    if not path.is_file():
        raise ValueError(f"{data}: there is no such file of judgments (JSON lines)")
    folder = picture_folder(data, reading.images)
    found: Found = {}
    visuals: dict[str, dict[str, Any] | None] = {}
    candidates: list[Candidate] = []
    pairs: list[Pair] = []
    for item, where in json_lines(path):
        if reading.split is not None and item.get("split") != reading.split:
            continue
        image_id, visual = _visual(item, folder, where)
        if visuals.setdefault(image_id, visual) != visual:
            raise ValueError(
                f'{where}: the image_id "{image_id}" is another picture, or other frames, than in a line before; give '
                "every picture its own image_id"
            )
        references = tuple(text_list(item.get("references", []), where, "references"))
        if "better" in item:
            first = len(candidates)
            captions = [_text(item, key, where) for key in ("better", "worse")]
            candidates += [Candidate(image_id, caption, references, visual) for caption in captions]
            pairs.append(Pair((first,), (first + 1,), image_id, str(item.get("category", ""))))
            continue
        caption = _text(item, "caption", where)
        key = "ratings" if "ratings" in item else "rating"
        if key not in item:
            raise ValueError(f'{where} has neither "rating" nor "ratings" nor "better" and "worse"')
        ratings = item[key] if isinstance(item[key], list) else [item[key]]
        candidate = Candidate(image_id, caption, references, visual)
        own = found.setdefault((image_id, caption, references), (candidate, []))
        own[1].extend(number_of(rating, where) for rating in ratings)
    if pairs and found:
        raise ValueError(f"{data} mixes ratings and pairs; measure them in two files")
    if pairs:
        return Benchmark(NAME, candidates, pairs, PAIRED)
    return rated(NAME, {key: own for key, own in found.items() if own[1]}, RATED, data)


def _visual(item: Mapping[str, Any], folder: Path, where: str) -> tuple[str, dict[str, Any] | None]:
    kind = next((kind for kind in KINDS if kind in item), None)
    image_id = item.get("image_id", item.get(kind) if kind else None)
    if isinstance(image_id, bool) or not isinstance(image_id, str | int):
        raise ValueError(f'{where} needs "image_id" or the path of an "image" or "video" to tell its picture by')
    if kind is None:
        return str(image_id), None
    paths = [str(folder / name) for name in text_list(item[kind], where, kind)]
    if kind == "frames":
        return str(image_id), {"frames": paths}
    if len(paths) != 1:
        raise ValueError(f'{where}: "{kind}" must be one path')
    if kind == "image":
        return str(image_id), {"image": paths[0]}
    choice = str(FrameChoice.parse(item.get("video_frames", "uniform:8")))
    if "video_frames" in item and "image_id" not in item:
        image_id = f"{image_id}#{choice}"  # segments of one video are pictures of their own
    return str(image_id), {"video": paths[0], "video_frames": choice}


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise ValueError(f'{where}: "{key}" must be a text, not {shown(value)}')
    return value
