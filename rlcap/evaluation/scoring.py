"""Running a reward over captions outside of training: pictures opened once, as few at a time as a batch needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import rewards
from rewards import Reward
from rlcap.data.collate import Visual, is_clip, open_visual
from rlcap.data.content import BadImage


@dataclass(frozen=True)
class Item:
    """A caption to be scored, with what a reward may look at.

    visual: the row that `open_visual` takes ("image", "frames", or "video" and "video_frames"); None where there is
    nothing to see.
    """

    image_id: str
    caption: str
    references: tuple[str, ...] = ()
    visual: Mapping[str, Any] | None = None


class TableRow(Mapping[str, Any]):
    """A row of a `datasets.Dataset` that is read when it is opened: pictures in a table stay on the disk."""

    def __init__(self, table: Any, number: int) -> None:
        self.table, self.number = table, number

    def __getitem__(self, key: str) -> Any:
        return self.table[self.number][key]

    def __contains__(self, key: object) -> bool:
        return key in self.table.column_names

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table.column_names)


@dataclass(frozen=True)
class Scored:
    """Values of the items at `positions`, None where not scored; `bad` lists (path, reason) of unreadable pictures."""

    positions: list[int]
    values: list[float | None]
    bad: list[tuple[str, str]]


def in_batches(items: Sequence[Item], size: int) -> list[list[int]]:
    """Positions of the items in batches of about `size`: the captions of a picture together, in one batch.

    Rewards refuse a picture that has different references in one batch (a benchmark may leave out the caption that is
    judged). So a picture's second set of references comes in a later batch than its first. A picture with more than
    `size` captions is a batch of its own. Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"batch size is {size}; give at least 1")
    sets: dict[str, dict[tuple[str, ...], list[int]]] = {}
    for position, item in enumerate(items):
        sets.setdefault(item.image_id, {}).setdefault(item.references, []).append(position)
    rounds: list[list[list[int]]] = []
    for of_picture in sets.values():
        for number, positions in enumerate(of_picture.values()):
            if number == len(rounds):
                rounds.append([])
            rounds[number].append(positions)
    batches: list[list[int]] = []
    for groups in rounds:
        batch: list[int] = []
        for positions in groups:
            if batch and len(batch) + len(positions) > size:
                batches.append(batch)
                batch = []
            batch = batch + positions
        batches.append(batch)
    return batches


def score_items(
    reward: Reward,
    items: Sequence[Item],
    batches: Sequence[Sequence[int]],
    *,
    on_bad: Callable[[list[tuple[str, str]]], None] | None = None,
    workers: int = 2,
    timeout: float | None = None,
) -> Iterator[Scored]:
    """Scores the items batch by batch; captions count as finished. timeout: seconds that a batch may take.

    Pictures are opened only for a reward that needs `images`, by `workers` threads, one batch ahead. Items whose
    picture cannot be decoded are not scored and told to `on_bad` (BadImageCounter.extend); without it BadImage is
    raised. Raises ValueError as `rewards.score` does, and for an item without a picture where one is needed.
    """
    needs_images = "images" in reward.needs
    with ThreadPoolExecutor(max(1, workers)) as pool:
        opened = _ahead(items, batches, pool) if needs_images else ({} for _ in batches)
        for batch, pictures in zip(batches, opened, strict=True):
            bad: dict[str, BadImage] = {}
            images: dict[str, Visual] = {}
            for image_id, picture in pictures.items():
                try:
                    images[image_id] = picture.result()
                except BadImage as error:
                    if on_bad is None:
                        raise
                    bad[image_id] = error
            told = [(error.path, error.reason) for error in bad.values()]
            if told and on_bad is not None:
                on_bad(told)
            kept = [position for position in batch if items[position].image_id not in bad]
            found = _values(reward, [items[position] for position in kept], images, timeout)
            values = dict(zip(kept, found, strict=True))
            yield Scored(list(batch), [values.get(position) for position in batch], told)


def _ahead(
    items: Sequence[Item], batches: Sequence[Sequence[int]], pool: ThreadPoolExecutor
) -> Iterator[dict[str, Future[Visual]]]:
    """The pictures of each batch by image id, those of the next one being opened meanwhile."""

    def start(batch: Sequence[int]) -> dict[str, Future[Visual]]:
        rows = {items[position].image_id: items[position] for position in batch}
        return {image_id: pool.submit(_open, item) for image_id, item in rows.items()}

    following = start(batches[0]) if batches else {}
    for number in range(len(batches)):
        current = following
        following = start(batches[number + 1]) if number + 1 < len(batches) else {}
        yield current


def _open(item: Item) -> Visual:
    if item.visual is None:
        raise ValueError(f"the picture of {item.image_id!r} is needed, and the data do not say where it is")
    return open_visual(item.visual)


def _values(
    reward: Reward, items: Sequence[Item], images: Mapping[str, Visual], timeout: float | None
) -> list[float | None]:
    if not items:
        return []
    columns: dict[str, Any] = {"image_id": [item.image_id for item in items]}
    columns |= {"finished": [True] * len(items), "prompts": [""] * len(items)}
    if any(item.references for item in items):
        shared = {item.references: list(item.references) for item in items}  # one object for a picture's captions
        columns["references"] = [shared[item.references] for item in items]
    if images:
        columns["images"] = [images[item.image_id] for item in items]
        columns["is_clip"] = [item.visual is not None and is_clip(item.visual) for item in items]
    completions = [item.caption for item in items]
    return rewards.score([reward], completions, columns, timeout=timeout)[reward.__name__]
