"""What `rlcap data check` finds out about a data set: counts, lengths, broken and repeated pictures, leaks."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from datasets import Dataset

from rlcap.data.content import BadImage, Source, looked_at
from rlcap.data.look import Print, content_hash, look_at

BATCH = 500
NAMED = 10  # items that a finding names
_BETWEEN_WORDS = re.compile(r"[\W_]+")


@dataclass
class Finding:
    """Something wrong: how many, of what, and the first of them."""

    what: str
    count: int
    examples: list[str]


@dataclass
class Report:
    """The findings about a data set; `splits`: name -> measure -> value; `overlaps`: captions shared between splits."""

    rows: int
    kind: str
    splits: dict[str, dict[str, float]]
    findings: list[Finding] = field(default_factory=list)
    overlaps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


class Look:
    """Looks at a batch of rows, in a data worker or here: (image_id, split, fingerprints or (path, reason)) a row."""

    def __init__(self, decode: bool) -> None:
        self.decode = decode

    def __call__(self, rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, tuple[Print, ...] | tuple[str, str]]]:
        """Raises ValueError where videos cannot be read for want of PyAV."""
        return [(row["image_id"], row["split"], self._one(row)) for row in rows]

    def _one(self, row: dict[str, Any]) -> tuple[Print, ...] | tuple[str, str]:
        try:
            return tuple(look_at(source, "video" in row, self.decode) for source in looked_at(row))
        except BadImage as error:
            return error.path, error.reason


def check(
    dataset: Dataset,
    *,
    pictures: bool = True,
    decode: bool = False,
    workers: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Report:
    """Check the rows of `load_captions` (with `drop_empty=None`, so that empty captions are counted).

    Wrong are: pictures that cannot be read, the same picture under several ids, pictures without references, empty
    captions, and the same references for pictures of different splits. Single captions that stand word for word in
    two splits are counted, and not wrong: short captions repeat ("a man riding a wave").

    Args:
        pictures: False looks at captions alone.
        decode: decode every picture and all frames of every video, instead of header and ends alone.
        workers: processes that look at pictures.
        progress: wraps the batches of `BATCH` rows (tqdm).
    """
    kind = next(name for name in ("image", "frames", "video") if name in dataset.column_names)
    texts = dataset.select_columns(["image_id", "references", "split"])
    ids, references, splits = (texts[name][:] for name in ("image_id", "references", "split"))
    report = Report(len(dataset), kind, {name: _measures(references, splits, name) for name in dict.fromkeys(splits)})
    if pictures:
        report.findings += _picture_findings(dataset, kind, decode, workers, progress)
    report.findings += _caption_findings(ids, references)
    plain = [[plain_caption(caption) for caption in of_row] for of_row in references]
    report.findings += _leaks(ids, plain, splits)
    report.overlaps = _overlaps(plain, splits)
    return report


def plain_caption(caption: str) -> str:
    """Return a caption in lower case, its words parted by single spaces and nothing else."""
    return _BETWEEN_WORDS.sub(" ", caption.casefold()).strip()


def _measures(references: list[list[str]], splits: list[str], split: str) -> dict[str, float]:
    of_split = [captions for captions, name in zip(references, splits, strict=True) if name == split]
    counts = [len(captions) for captions in of_split]
    words = [len(caption.split()) for captions in of_split for caption in captions] or [0]
    return {
        "rows": len(of_split),
        "captions": sum(counts),
        "fewest captions": min(counts),
        "mean captions": fmean(counts),
        "most captions": max(counts),
        "fewest words": min(words),
        "median words": float(np.median(words)),
        "95 % below": float(np.percentile(words, 95)),
        "most words": max(words),
    }


def _caption_findings(ids: list[str], references: list[list[str]]) -> Iterator[Finding]:
    without = [image_id for image_id, captions in zip(ids, references, strict=True) if not captions]
    empty = [image_id for image_id, captions in zip(ids, references, strict=True) if not all(map(str.strip, captions))]
    for what, found in (("rows without references", without), ("rows with an empty caption", empty)):
        if found:
            yield Finding(what, len(found), found[:NAMED])


def _picture_findings(
    dataset: Dataset, kind: str, decode: bool, workers: int, progress: Callable[[Iterable[Any]], Iterable[Any]]
) -> Iterator[Finding]:
    bad: list[str] = []
    alike: dict[tuple[Print, ...], list[int]] = defaultdict(list)
    row = 0
    for batch in progress(_looks(dataset.select_columns(["image_id", kind, "split"]), Look(decode), workers)):
        for image_id, _, found in batch:
            if found and isinstance(found[0], Print):
                alike[found].append(row)
            else:
                path, reason = found
                bad.append(f"{image_id}: {path}: {reason}")
            row += 1
    if bad:
        yield Finding("pictures or videos that cannot be read", len(bad), bad[:NAMED])
    within: list[str] = []
    between: list[str] = []
    for rows in alike.values():
        for same in _same_content(dataset, rows) if len(rows) > 1 else ():
            members = [(dataset[at]["image_id"], dataset[at]["split"]) for at in same]
            text = " = ".join(f"{image_id} ({split})" for image_id, split in members)
            (between if len({split for _, split in members}) > 1 else within).append(text)
    for what, groups in (
        ("pictures under several ids, in different splits", between),
        ("pictures under several ids, in one split", within),
    ):
        if groups:
            yield Finding(what, len(groups), groups[:NAMED])


def _looks(dataset: Dataset, look: Look, workers: int) -> Iterable[list[Any]]:
    if workers:
        from torch.utils.data import DataLoader

        return DataLoader(dataset, batch_size=BATCH, collate_fn=look, num_workers=workers)  # type: ignore[arg-type]
    batches = dataset.iter(batch_size=BATCH)
    return (
        look([dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]) for batch in batches
    )  # type: ignore[union-attr]


def _same_content(dataset: Dataset, rows: list[int]) -> list[list[int]]:
    """The rows whose files are the same to the last byte, of those whose ends are."""
    groups: dict[tuple[bytes, ...], list[int]] = defaultdict(list)
    for at in rows:
        sources: list[Source] = looked_at(dataset[at])
        groups[tuple(content_hash(source) for source in sources)].append(at)
    return [group for group in groups.values() if len(group) > 1]


def _leaks(ids: list[str], plain: list[list[str]], splits: list[str]) -> Iterator[Finding]:
    """The same two or more references in different splits: the picture itself is likely in both, encoded anew."""
    holders: dict[frozenset[str], list[int]] = defaultdict(list)
    for at, captions in enumerate(plain):
        distinct = frozenset(captions)
        if len(distinct) > 1:
            holders[distinct].append(at)
    shared = [rows for rows in holders.values() if len({splits[at] for at in rows}) > 1]
    if shared:
        named = [" = ".join(f"{ids[at]} ({splits[at]})" for at in rows[:4]) for rows in shared[:NAMED]]
        yield Finding("sets of references that rows of different splits share", len(shared), named)


def _overlaps(plain: list[list[str]], splits: list[str]) -> list[dict[str, Any]]:
    """For every two splits, the captions of the smaller one that stand word for word in the other."""
    captions: dict[str, Counter[str]] = defaultdict(Counter)
    for of_row, split in zip(plain, splits, strict=True):
        captions[split].update(of_row)
    names = sorted(filter(captions.get, captions), key=lambda name: captions[name].total())
    found = []
    for at, small in enumerate(names):
        for large in names[at + 1 :]:
            shared = {text: n for text, n in captions[small].items() if text in captions[large]}
            examples = sorted(shared, key=lambda text: (-shared[text], text))[:3]
            total = captions[small].total()
            found.append(
                {
                    "of": small,
                    "in": large,
                    "captions": sum(shared.values()),
                    "share": sum(shared.values()) / total,
                    "examples": examples,
                }
            )
    return found
