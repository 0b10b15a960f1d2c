"""Running several rewards over a batch, with checks, and combining them into one number a caption."""

import asyncio
import inspect
import math
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rewards.completions import texts
from rewards.deadline import deadline, in_thread
from rewards.reward import as_reward

HOW = ("sum", "group_normalized")
_EPS = 1e-4  # as in TRL's normalize_then_sum


class NotFiniteReward(ValueError):
    """A reward is NaN or infinite."""


def score(
    rewards: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any], *, timeout: float | None = None
) -> dict[str, list[Any]]:
    """The values of each reward by its name: lists of B*K numbers, None where a caption was not scored.

    rewards: ours or TRL's reward functions; `async` ones wait for their answers at the same time. columns: flat
    lists of B*K values, by name. timeout: seconds that each may take (`rewards.deadline`).
    Raises RuntimeError naming a reward that takes longer; NotFiniteReward, a ValueError, for NaN and infinity;
    ValueError, naming the reward and, where there is one, the picture and caption, for a missing column, a wrong
    number of values, and what is no number; and for two rewards of one name.
    """
    wrapped = [as_reward(reward) for reward in rewards]
    names = [reward.__name__ for reward in wrapped]
    if len(set(names)) < len(names):
        raise ValueError(f"rewards: two rewards have the same name among {', '.join(names)}; their values would mix")
    returned: dict[str, Any] = {}
    for reward, name in zip(wrapped, names, strict=True):
        missing = sorted(need for need in reward.needs if columns.get(need) is None)
        if missing:
            raise ValueError(
                f"{name}: needs the column(s) {', '.join(missing)}, which the batch does not have; its columns are "
                f"{', '.join(sorted(columns)) or 'none'}"
            )
        with deadline(timeout, name):
            returned[name] = reward(completions, **columns)
    waiting = {
        # Each in a thread: one that blocks its loop holds up no other, and a notebook's thread has a loop already.
        name: in_thread(partial(_run, name, values, timeout), f"rlcap-{name}")
        for name, values in returned.items()
        if inspect.isawaitable(values)
    }
    returned |= {name: pending() for name, pending in waiting.items()}
    return {name: _checked(values, name, completions, columns) for name, values in returned.items()}


def _run(name: str, waiting: Awaitable[Any], timeout: float | None) -> Any:
    with deadline(timeout, name):
        return asyncio.run(_answer(name, waiting, timeout))


async def _answer(name: str, waiting: Awaitable[Any], timeout: float | None) -> Any:
    async def answer() -> Any:
        return await waiting

    answering = asyncio.ensure_future(answer())
    await asyncio.wait([answering], timeout=timeout or None)
    if not answering.done():
        answering.cancel()
        raise RuntimeError(f"{name}: no answer within {timeout:g} seconds")
    return answering.result()


def _checked(values: Any, name: str, completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Any]:
    try:
        listed = list(values)
    except TypeError:
        raise ValueError(f"{name}: returned {values!r}; a reward returns a list with one value a caption") from None
    if len(listed) != len(completions):
        raise ValueError(f"{name}: returned {len(listed)} values for {len(completions)} captions")
    for i, value in enumerate(listed):
        if value is None:
            continue
        try:
            listed[i] = number = float(value)
        except (TypeError, ValueError):
            where = _where(i, completions, columns)
            raise ValueError(f"{name}: returned {value!r}, which is no number, for {where}") from None
        if not math.isfinite(number):
            raise NotFiniteReward(
                f"{name}: returned {value!r} for {_where(i, completions, columns)}; a reward that cannot score a "
                "caption returns None"
            )
    return listed


def _where(position: int, completions: Sequence[Any], columns: Mapping[str, Any]) -> str:
    caption = texts([completions[position]], "rewards")[0]
    ids = columns.get("image_id")
    picture = "" if ids is None else f"the picture {ids[position]!r}, "
    return f"{picture}caption {caption!r}"


def combine(
    per_reward: Mapping[str, Sequence[float | None] | np.ndarray],
    weights: Mapping[str, float] | None = None,
    *,
    group_size: int | None = None,
    groups: Sequence[Any] | None = None,
    how: str = "sum",
    completions: Sequence[Any] | None = None,
    image_id: Sequence[Any] | None = None,
) -> np.ndarray:
    """One number a caption, [B*K] float64, from each reward's values [B*K] (None or NaN: not scored, left out).

    how="sum": sum of weight x value. how="group_normalized" (GDPO; TRL's normalize_then_sum): each reward first becomes
    (value - mean) / (std + 1e-4) over the captions of its group, std with Bessel's correction (0 for a group of one
    scored caption), so that no reward outweighs another by its scale.
    weights: by name, 1 where not given. Groups: `group_size` captions in a row, or `groups`, one id a caption; only the
    second form needs them. completions, image_id: named in messages.
    Raises ValueError for a weight of no reward, rewards of different lengths, groups that do not fit, and a caption
    that no reward scored.
    """
    if how not in HOW:
        raise ValueError(f"rewards: how is {how!r}; give one of {', '.join(HOW)}")
    if not per_reward:
        raise ValueError("rewards: there is none to combine")
    weights = weights or {}
    unknown = sorted(set(weights) - set(per_reward))
    if unknown:
        raise ValueError(f"rewards: weights for {', '.join(unknown)}, but the rewards are {', '.join(per_reward)}")
    names = list(per_reward)
    lengths = {name: len(per_reward[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"rewards: different numbers of values: {lengths}")
    values = np.array([np.asarray(per_reward[name], dtype=np.float64) for name in names])
    scored = ~np.isnan(values)
    _refuse_unscored(scored, names, completions, image_id)
    if how == "group_normalized":
        values = _normalized(values, scored, _group_index(values.shape[1], group_size, groups))
    weight = np.array([float(weights.get(name, 1.0)) for name in names])
    return (weight[:, None] * np.where(scored, values, 0.0)).sum(axis=0)


def _refuse_unscored(
    scored: np.ndarray, names: list[str], completions: Sequence[Any] | None, image_id: Sequence[Any] | None
) -> None:
    nowhere = np.flatnonzero(~scored.any(axis=0))
    if len(nowhere):
        i = int(nowhere[0])
        where = f"number {i}" if completions is None else _where(i, completions, {"image_id": image_id})
        raise ValueError(
            f"rewards: none of {', '.join(names)} scored {where} ({len(nowhere)} such caption(s)); each caption needs "
            "a value from at least one reward"
        )


def _group_index(length: int, group_size: int | None, groups: Sequence[Any] | None) -> np.ndarray:
    if (group_size is None) == (groups is None):
        raise ValueError("rewards: group_normalized needs either group_size or groups")
    if groups is not None:
        if len(groups) != length:
            raise ValueError(f"rewards: {len(groups)} group ids for {length} captions")
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    assert group_size is not None
    if group_size < 1 or length % group_size:
        raise ValueError(f"rewards: {length} captions do not divide into groups of {group_size}")
    return np.arange(length) // group_size


def _normalized(values: np.ndarray, scored: np.ndarray, group: np.ndarray) -> np.ndarray:
    normalized = np.full_like(values, np.nan)
    num_groups = int(group.max()) + 1 if len(group) else 0
    for row, (own, known) in enumerate(zip(values, scored, strict=True)):
        filled = np.where(known, own, 0.0)
        count = np.bincount(group, weights=known, minlength=num_groups)
        mean = np.bincount(group, weights=filled, minlength=num_groups) / np.maximum(count, 1)
        centered = np.where(known, own - mean[group], 0.0)
        squares = np.bincount(group, weights=centered**2, minlength=num_groups)
        std = np.sqrt(squares / np.maximum(count - 1, 1))
        normalized[row] = np.where(known, centered / (std[group] + _EPS), np.nan)
    return normalized
