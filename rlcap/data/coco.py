"""The captions file of COCO: `images` with ids and file names, `annotations` with one caption each."""

from collections.abc import Iterator
from typing import Any

from rlcap.data.rows import CaptionRow, shown


def read_coco(document: dict[str, Any], source: str, split: str) -> Iterator[CaptionRow]:
    """Yield the rows of a COCO captions document, in the order of `images`; `split` names them, the file does not.

    A picture without annotations (COCO's test file) has no references. Raises ValueError naming the entry and the key
    that is missing or wrong, or the annotation whose picture is not in `images`.
    """
    captions: dict[object, list[str]] = {}
    for number, image in enumerate(document["images"]):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise ValueError(f'{source}: images[{number}] needs "id" and "file_name", not {shown(image)}')
        captions.setdefault(image["id"], [])
    for number, annotation in enumerate(document["annotations"]):
        where = f"{source}: annotations[{number}]"
        if not isinstance(annotation, dict) or not isinstance(annotation.get("caption"), str):
            raise ValueError(
                f'{where} needs a "caption" (a text), not {shown(annotation)}; is this a captions file, '
                "or COCO's instances or keypoints?"
            )
        if annotation.get("image_id") not in captions:
            raise ValueError(f'{where}: "image_id" {shown(annotation.get("image_id"))} is not among "images"')
        captions[annotation["image_id"]].append(annotation["caption"])
    for number, image in enumerate(document["images"]):
        yield CaptionRow(
            image_id=str(image["id"]),
            visual=image["file_name"],
            references=captions[image["id"]],
            split=split,
            where=f"{source}: images[{number}]",
        )
