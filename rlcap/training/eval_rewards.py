"""Rewards as measures of validation: what they say of the captions that are generated at an evaluation."""

from collections.abc import Mapping, Sequence

import datasets
from accelerate.utils import gather_object

from rewards import Reward
from rlcap.data.images import BadImageCounter
from rlcap.evaluation.scoring import Item, TableRow, in_batches, score_items
from rlcap.training.arguments import CaptionerTrainingArguments


def reward_means(
    functions: Sequence[Reward],
    captions: Mapping[str, str],
    pictures: datasets.Dataset,
    args: CaptionerTrainingArguments,
) -> dict[str, float]:
    """`rewards/<name>` -> the mean over the captions that the reward scores; ranks share the work.

    captions: image_id -> caption, the same on all ranks. pictures: their rows, with `references`. A reward that scores
    none has no mean. Raises what `rewards.score` does, ValueError for more unreadable pictures than `max_bad_images`.
    """
    if not functions:
        return {}
    rows = enumerate(zip(pictures["image_id"], pictures["references"], strict=True))
    items = [
        Item(image_id, captions[image_id], tuple(references), TableRow(pictures, number))
        for number, (image_id, references) in rows
        if image_id in captions
    ][args.process_index :: args.world_size]
    sums: dict[str, tuple[float, int]] = {}
    for function in functions:
        bad = BadImageCounter(len(items), args.max_bad_images)
        batches = in_batches(items, args.per_device_eval_batch_size)
        scored = score_items(function, items, batches, on_bad=bad.extend, timeout=args.reward_timeout)
        values = [value for batch in scored for value in batch.values if value is not None]
        sums[function.__name__] = sum(values), len(values)
    everywhere = gather_object([sums])
    totals = {name: [sum(column) for column in zip(*(own[name] for own in everywhere), strict=True)] for name in sums}
    return {f"rewards/{name}": total / count for name, (total, count) in totals.items() if count}
