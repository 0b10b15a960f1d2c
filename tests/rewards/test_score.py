"""Running rewards with checks, and combining their values."""

import asyncio
import math

import numpy as np
import pytest

from rewards import combine, load, score

CAPTIONS = ["a dog", "a dog runs on the"]
COLUMNS = {"image_id": ["x", "y"], "references": [["a dog"], ["a dog runs"]]}


def length(completions, **kwargs):
    return [float(len(c)) for c in completions]


def prompted(prompts, completions, **kwargs):
    return [float(len(p)) for p in prompts]


async def later(completions, **kwargs):
    return [None if "runs" in c else 1 for c in completions]


def strict(completions, image_id):
    return [1.0 if i == "x" else 0.0 for i in image_id]


def test_several_rewards_run_over_one_batch() -> None:
    results = score([load("bad-ending"), length, later, strict], CAPTIONS, COLUMNS)
    assert results == {
        "bad-ending": [0.0, -1.0],
        "length": [5.0, 17.0],
        "later": [1.0, None],
        "strict": [1.0, 0.0],
    }


def test_async_rewards_wait_together_and_in_a_running_loop_too() -> None:
    """Each lets the other go on: one after the other they would wait for ever (until the timeout)."""
    met = asyncio.Event()

    async def first(completions, **kwargs):
        await asyncio.wait_for(met.wait(), 5)
        return [1.0] * len(completions)

    async def second(completions, **kwargs):
        met.set()
        return [2.0] * len(completions)

    async def notebook():
        return score([first, length, second], CAPTIONS, COLUMNS)

    results = asyncio.run(notebook())
    assert list(results) == ["first", "length", "second"]
    assert results["first"] == [1.0, 1.0]
    assert results["second"] == [2.0, 2.0]


def test_numbers_of_arrays_are_accepted() -> None:
    def arrays(completions, **kwargs):
        return np.arange(len(completions), dtype=np.float32)

    assert score([arrays], CAPTIONS, {}) == {"arrays": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "broken: returned 1 values for 2 captions"),
        ([1.0, math.nan], "broken: returned nan for the picture 'y', caption 'a dog runs on the'"),
        ([math.inf, 0.0], "broken: returned inf for the picture 'x', caption 'a dog'"),
        ([1.0, "high"], "broken: returned 'high', which is no number, for the picture 'y'"),
        (None, "broken: returned None; a reward returns a list"),
    ],
)
def test_broken_values_name_reward_picture_and_caption(values, message: str) -> None:
    def broken(completions, **kwargs):
        return values

    with pytest.raises(ValueError) as raised:
        score([broken], CAPTIONS, COLUMNS)
    assert message in str(raised.value)


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"bleu: needs the column\(s\) references, .* its columns are image_id"):
        score([load("bleu")], CAPTIONS, {"image_id": ["x", "y"]})
    with pytest.raises(ValueError, match=r"prompted: needs the column\(s\) prompts"):
        score([prompted], CAPTIONS, COLUMNS)
    assert score([prompted], CAPTIONS, {"prompts": ["?", "??"]}) == {"prompted": [1.0, 2.0]}


def test_two_rewards_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name among length, length"):
        score([length, length], CAPTIONS, {})


def test_weighted_sum_leaves_out_what_was_not_scored() -> None:
    combined = combine({"a": [1.0, None, 3.0], "b": [10.0, 20.0, math.nan]}, {"b": 0.5})
    np.testing.assert_allclose(combined, [6.0, 10.0, 3.0])


def test_group_normalisation_is_that_of_gdpo() -> None:
    """Two groups of two: (value - mean) / (std + 1e-4) with Bessel's std, then the weighted sum."""
    values = {"a": [0.0, 1.0, 5.0, 5.0], "b": [0.0, 1000.0, 3000.0, 1000.0]}
    combined = combine(values, {"a": 1.0, "b": 2.0}, group_size=2, how="group_normalized")
    a = 0.5 / (math.sqrt(0.5) + 1e-4)
    b1, b2 = 500 / (math.sqrt(500_000) + 1e-4), 1000 / (math.sqrt(2_000_000) + 1e-4)
    np.testing.assert_allclose(combined, [-a - 2 * b1, a + 2 * b1, 2 * b2, -2 * b2], rtol=1e-12)


def test_group_normalisation_equals_trls() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 12))
    values[0, [1, 2, 3, 7]] = np.nan
    grouped = torch.tensor(values.T).view(-1, 4, 2)
    mean = torch.nanmean(grouped, dim=1, keepdim=True)
    count = (~grouped.isnan()).sum(dim=1, keepdim=True)
    std = (torch.nansum((grouped - mean) ** 2, dim=1, keepdim=True) / (count - 1)).sqrt()
    # With a single scored value TRL's std is NaN and the value drops out; here it is 0 and so is the value.
    expected = ((grouped - mean) / (std + 1e-4)).view(-1, 2).nansum(dim=1).numpy()
    combined = combine({"a": values[0], "b": values[1]}, group_size=4, how="group_normalized")
    np.testing.assert_allclose(combined, expected, atol=1e-12)


def test_groups_by_id_equal_groups_in_a_row() -> None:
    values = {"a": [1.0, 2.0, 4.0, 8.0, 5.0, 7.0]}
    in_a_row = combine(values, group_size=3, how="group_normalized")
    order = [0, 3, 1, 4, 2, 5]
    shuffled = {"a": [values["a"][i] for i in order]}
    by_id = combine(shuffled, groups=["x", "y", "x", "y", "x", "y"], how="group_normalized")
    np.testing.assert_allclose(by_id, in_a_row[order])
    assert in_a_row[:3].sum() == pytest.approx(0.0, abs=1e-12)


def test_a_reward_that_is_constant_in_its_group_adds_nothing() -> None:
    combined = combine({"a": [3.0, 3.0, 3.0], "b": [1.0, None, None]}, group_size=3, how="group_normalized")
    np.testing.assert_array_equal(combined, [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"per_reward": {"a": [1.0, None]}, "completions": CAPTIONS, "image_id": ["x", "y"]},
            "the picture 'y', caption",
        ),
        ({"per_reward": {"a": [1.0], "b": [1.0, 2.0]}}, "different numbers of values"),
        ({"per_reward": {"a": [1.0]}, "weights": {"c": 1.0}}, "weights for c, but the rewards are a"),
        ({"per_reward": {"a": [1.0]}, "how": "mean"}, "how is 'mean'; give one of sum, group_normalized"),
        ({"per_reward": {}}, "there is none to combine"),
        (
            {"per_reward": {"a": [1.0] * 3}, "how": "group_normalized", "group_size": 2},
            "do not divide into groups of 2",
        ),
        ({"per_reward": {"a": [1.0]}, "how": "group_normalized"}, "needs either group_size or groups"),
        ({"per_reward": {"a": [1.0]}, "how": "group_normalized", "groups": [1, 2]}, "2 group ids for 1 captions"),
    ],
)
def test_what_cannot_be_combined(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        combine(**arguments)
    assert message in str(raised.value)
