"""The captions of Flickr8k's photographs, which the ratings name as `file.jpg#number`."""

from rlcap.data.annotation_files import find, read_json, tab_separated
from rlcap.data.karpathy import read_karpathy

FILES = ("dataset_flickr8k.json", "Flickr8k.token.txt")


def flickr8k_captions(data: str) -> dict[str, list[str]]:
    """File name -> its five captions, in order, from Karpathy's JSON or `Flickr8k.token.txt` in the folder `data`.

    Raises ValueError where neither is there.
    """
    path = find(data, FILES, "Flickr8k's captions")
    captions: dict[str, list[str]] = {}
    if path.suffix == ".json":
        for row in read_karpathy(read_json(path), str(path)):
            captions[row.visual] = row.references
    else:
        for (caption_id, caption), _ in tab_separated(path, 2):
            captions.setdefault(caption_id.partition("#")[0], []).append(caption)
    return captions


def caption_of(caption_id: str, captions: dict[str, list[str]], where: str) -> str:
    """The caption that `file.jpg#number` names; raises ValueError where there is none."""
    name, _, number = caption_id.partition("#")
    own = captions.get(name, [])
    if not number.isdigit() or int(number) >= len(own):
        raise ValueError(f"{where}: there is no caption {caption_id!r} among those of Flickr8k")
    return own[int(number)]


def references_of(image: str, captions: dict[str, list[str]], where: str) -> list[str]:
    """The captions of a photograph; raises ValueError where there are none."""
    if image not in captions:
        raise ValueError(f"{where}: the picture {image!r} has no captions among those of Flickr8k")
    return captions[image]
