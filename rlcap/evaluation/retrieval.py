"""Whether captions find their own pictures among all others, in the space of a dual encoder."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rewards.clip_features import Features
from rlcap.console import progress
from rlcap.data.collate import open_visual

_BATCH = 64


def own_ranks(similarities: Tensor) -> Tensor:
    """The rank, from 1, of each row's own column: [N, N] similarities of captions and pictures -> [N].

    Columns that are as near as the own one stand before it, so that an encoder that tells nothing apart finds nothing.
    """
    own = similarities.diagonal().unsqueeze(1)
    return (similarities >= own).sum(dim=1)


def picture_ranks(
    features: Features, captions: Mapping[str, str], visuals: Mapping[str, Mapping[str, Any]], prefix: str
) -> dict[str, int]:
    """The rank of each caption's own picture among the pictures of all captions, from 1.

    captions: picture id -> caption. visuals: picture id -> row that says where picture or clip is (`open_visual`); of a
    clip the mean of its frames' vectors counts. prefix: laid before captions with a space between, "" for none.
    Raises ValueError for captions whose picture is not known, and BadImage where one cannot be read.
    """
    unknown = [name for name in captions if name not in visuals]
    if unknown:
        raise ValueError(f"pictures are needed to retrieve them, and there is none for {unknown[:3]}")
    names = list(captions)
    seen: list[Tensor] = []
    for start in progress(range(0, len(names), _BATCH), desc="pictures", unit="batch"):
        opened = {name: open_visual(visuals[name]) for name in names[start : start + _BATCH]}
        vectors = features.pictures((name, tuple(v) if isinstance(v, list) else (v,)) for name, v in opened.items())
        seen += [torch.nn.functional.normalize(vectors[name].mean(dim=0), dim=0) for name in opened]
    texts = [f"{prefix} {captions[name]}".strip() for name in names]
    of_text = features.captions(texts)
    ranks = own_ranks(torch.stack([of_text[text] for text in texts]) @ torch.stack(seen).T)
    return dict(zip(names, ranks.tolist(), strict=True))
