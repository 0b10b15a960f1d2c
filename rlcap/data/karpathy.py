"""The split files of Karpathy and Fei-Fei (2015): Flickr8k, Flickr30k and COCO in one JSON document each."""

import os
from collections.abc import Iterator
from typing import Any

from rlcap.data.rows import CaptionRow, shown
from rlcap.data.splits import split_name


def read_karpathy(document: dict[str, Any], source: str) -> Iterator[CaptionRow]:
    """Yield the rows of a Karpathy document: `images`, each with `filename`, `split` and `sentences`.

    `image_id` is the `cocoid` where there is one, else the file name without its ending. The split "restval" (COCO's
    remaining validation pictures) counts as train, as in all the work that uses these splits. Raises ValueError naming
    the entry and the key that is missing or of the wrong type.
    """
    for number, image in enumerate(document["images"]):
        where = f"{source}: images[{number}]"
        if not isinstance(image, dict):
            raise ValueError(f"{where} must be an object, not {shown(image)}")
        for key, kind in (("filename", str), ("split", str), ("sentences", list)):
            if not isinstance(image.get(key), kind):
                raise ValueError(f'{where}: "{key}" must be a {kind.__name__}, not {shown(image.get(key))}')
        filename = image["filename"]
        image_id = str(image["cocoid"]) if "cocoid" in image else os.path.splitext(os.path.basename(filename))[0]
        yield CaptionRow(
            image_id=image_id,
            visual=os.path.join(image.get("filepath", ""), filename),
            references=[
                _sentence(sentence, f"{where}.sentences[{n}]") for n, sentence in enumerate(image["sentences"])
            ],
            split=split_name(image["split"]),
            where=where,
        )


def _sentence(sentence: object, where: str) -> str:
    if isinstance(sentence, dict):
        if isinstance(sentence.get("raw"), str):
            return sentence["raw"]
        tokens = sentence.get("tokens")
        if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
            return " ".join(tokens)
    raise ValueError(f'{where}: needs "raw" (a text) or "tokens" (a list of words), not {shown(sentence)}')
