"""Retrieval between pictures and captions: how often what belongs to the query is among the first K found."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rewards.clip_features import Features
from rewards.pictures import Frames
from rlcap.console import progress
from rlcap.data.collate import open_visual
from rlcap.evaluation.metrics import NEAREST as CUTS
from rlcap.launching.processes import Processes

_QUERIES_AT_ONCE = 1024
_PICTURES_AT_ONCE = 64


def retrieval(pictures: Tensor, captions: Tensor, picture_of: Tensor) -> dict[str, float]:
    """R@1, R@5 and R@10 in percent, `image_to_text_r<K>` and `text_to_image_r<K>`, and `r1`, the mean of both R@1.

    pictures `[V, D]` and captions `[C, D]` are unit vectors; `picture_of` `[C]` is the row of each caption's picture. A
    picture finds if any of its captions is among the first K. Of equal cosines each order counts alike, so that
    vectors which are all the same score as chance does. Raises ValueError for a picture without captions.
    """
    without = set(range(len(pictures))) - set(picture_of.tolist())
    if without:
        raise ValueError(f"{len(without)} of {len(pictures)} pictures have no captions, row {min(without)} among them")
    own_of = [torch.nonzero(picture_of == v).flatten() for v in range(len(pictures))]
    found = {"image_to_text": torch.zeros(len(CUTS)), "text_to_image": torch.zeros(len(CUTS))}
    for start in range(0, len(pictures), _QUERIES_AT_ONCE):
        cosines = pictures[start : start + _QUERIES_AT_ONCE] @ captions.T
        for row, own in zip(cosines, own_of[start:], strict=False):
            others = torch.ones(len(row), dtype=torch.bool, device=row.device)
            others[own] = False
            found["image_to_text"] += _hits(row[own].max(), row[others])
    for start in range(0, len(captions), _QUERIES_AT_ONCE):
        rows = captions[start : start + _QUERIES_AT_ONCE] @ pictures.T
        for caption, row in enumerate(rows, start):
            others = torch.ones(len(row), dtype=torch.bool, device=row.device)
            others[picture_of[caption]] = False
            found["text_to_image"] += _hits(row[picture_of[caption]], row[others])
    queries = {"image_to_text": len(pictures), "text_to_image": len(captions)}
    measured = {
        f"{way}_r{cut}": 100 * float(hits) / queries[way]
        for way, own in found.items()
        for cut, hits in zip(CUTS, own, strict=True)
    }
    return {**measured, "r1": (measured["image_to_text_r1"] + measured["text_to_image_r1"]) / 2}


def caption_hits(
    features: Features,
    captions: Mapping[str, str],
    visuals: Mapping[str, Mapping[str, Any]],
    prefix: str,
    processes: Processes | None = None,
) -> dict[str, list[float]]:
    """Whether each caption finds its picture among the first 1, 5 and 10 of the pictures of all captions: 1 or 0.

    captions: image_id -> caption. visuals: image_id -> row that says where picture or clip is (`open_visual`), opened
    only where `features` has not kept its vectors; of a clip their mean counts. prefix: laid before captions with a
    space between, "" for none. Of equal cosines each order counts alike, so a value may lie between. Several
    `processes` share the encoding. Raises ValueError for captions whose picture is not known, and BadImage where one
    cannot be read.
    """
    unknown = [image_id for image_id in captions if image_id not in visuals]
    if unknown:
        raise ValueError(f"pictures are needed to retrieve them, and there is none for {unknown[:3]}")
    processes = processes or Processes()

    def see(image_ids: Sequence[str]) -> Iterator[Tensor]:
        names = [("id", image_id) for image_id in image_ids]
        starts = range(0, len(names), _PICTURES_AT_ONCE)
        for start in progress(starts, desc="pictures", unit="batch", disable=not processes.first):
            batch = names[start : start + _PICTURES_AT_ONCE]
            vectors = features.pictures(_Opened(batch, visuals))
            yield from (torch.nn.functional.normalize(vectors[name].mean(dim=0), dim=0) for name in batch)

    def read(texts: Sequence[str]) -> Iterator[Tensor]:
        vectors = features.captions(texts)
        yield from (vectors[text] for text in texts)

    seen = processes.each(see, list(captions))
    of_text = processes.each(read, [f"{prefix} {caption}".strip() for caption in captions.values()])
    cosines = torch.stack(of_text) @ torch.stack(seen).T
    others = ~torch.eye(len(captions), dtype=torch.bool)
    return {image_id: _hits(cosines[i, i], cosines[i, others[i]]).tolist() for i, image_id in enumerate(captions)}


class _Opened(Mapping[Hashable, Frames]):
    """Pictures by name, opened when they are looked at."""

    def __init__(self, names: Sequence[tuple[str, str]], visuals: Mapping[str, Mapping[str, Any]]) -> None:
        self.rows: dict[Hashable, Mapping[str, Any]] = {name: visuals[name[1]] for name in names}

    def __getitem__(self, name: Hashable) -> Frames:
        visual = open_visual(self.rows[name])
        return tuple(visual) if isinstance(visual, list) else (visual,)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def _hits(own: Tensor, others: Tensor) -> Tensor:
    """The chance to be among the first K, for each K, where ties are broken at random."""
    better, equal = int((others > own).sum()), int((others == own).sum())
    return torch.tensor([min(max((cut - better) / (equal + 1), 0.0), 1.0) for cut in CUTS])
