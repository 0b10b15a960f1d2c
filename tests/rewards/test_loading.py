"""Rewards by name."""

from pathlib import Path

import pytest

import rewards
from rewards.reward import Reward

OWN = """
class Penalty:
    __name__ = "penalty"
    needs = frozenset({"length"})
    uses_corpus = True

    def __init__(self, *, corpus=None, scale=1.0):
        self.corpus, self.scale = corpus, scale

    def __call__(self, completions, *, length=None, **columns):
        return [self.scale * n for n in length]


def words(completions, image_id, mood="calm", **kwargs):
    return [float(len(c.split())) for c in completions]


def factory(scale):
    def scaled(completions, **kwargs):
        return [scale for _ in completions]
    return scaled


def looks(completions, *, images=None, references=None):
    return [0.0 for _ in completions]


def no_reward_function(x, y):
    return lambda a: a


NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own."""
    (tmp_path / "users_own_rewards.py").write_text(OWN)
    (tmp_path / "users_broken_rewards.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "users_own_rewards"


TRAINED = {"grammar", "multi-tap", "comparative"}  # loaded from what was trained, or from an encoder's weights
WITH_WEIGHTS = TRAINED | {name for name in rewards.BUILT_IN if "clip-s" in name or "pac-s" in name}


@pytest.mark.parametrize("name", sorted(rewards.BUILT_IN.keys() - WITH_WEIGHTS))
def test_built_in_rewards_say_what_they_are(name: str) -> None:
    reward = rewards.load(name, corpus={"1": ["a dog"], "2": ["a cat"]})
    assert isinstance(reward, Reward)
    assert reward.__name__ == name
    assert reward.describe()["name"] == name
    columns = {"references": [["a dog"], ["a dog"]], "image_id": ["1", "1"]}
    scores = rewards.score([reward], ["a dog", "a dog"], {n: columns[n] for n in reward.needs})[name]
    assert len(scores) == 2
    assert scores[0] == scores[1]


def test_options_reach_the_reward() -> None:
    assert rewards.load("bleu", n=2).describe()["n"] == 2


def test_a_users_function_gets_its_needs_from_its_signature(own: str) -> None:
    reward = rewards.load(f"{own}:words")
    assert reward.__name__ == "words"
    assert reward.needs == frozenset({"image_id"})
    assert reward(["a b c"], image_id=["x"], references=[["y"]]) == [3.0]
    assert reward.describe() == {"name": "words", "function": f"{own}:words"}


def test_images_are_needed_whenever_they_are_named(own: str) -> None:
    assert rewards.load(f"{own}:looks").needs == {"images"}


def test_a_users_class_gets_options_and_corpus(own: str) -> None:
    corpus = {"1": ["a dog"]}
    reward = rewards.load(f"{own}:Penalty", corpus=corpus, scale=2.0)
    assert reward.corpus is corpus
    assert reward(["x"], length=[4]) == [8.0]


def test_a_users_factory_gets_options(own: str) -> None:
    reward = rewards.load(f"{own}:factory", scale=0.5)
    assert reward.__name__ == "scaled"
    assert reward(["x", "y"]) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "cider",
            {},
            "no reward 'cider' (did you mean 'cider-d'?); the built-in ones are cider-d, bleu, repetition, bad-ending",
        ),
        ("bleu", {"m": 3}, "'bleu' has no option 'm'; its options are n, max_indexed_images"),
        ("bad-ending", {"n": 3}, "'bad-ending' has no option 'n'; its options are none"),
        ("nowhere.to_be:found", {}, "there is no module 'nowhere'"),
        ("users_own_rewards:nothing", {}, "has no 'nothing'"),
        ("users_own_rewards:NUMBER", {}, "is 3, which cannot be called"),
        ("users_own_rewards:words", {"n": 1}, "is a function and takes no options, but n were given"),
        ("users_own_rewards:factory", {}, "needs the option(s) scale"),
        ("users_own_rewards:no_reward_function", {"x": 1, "y": 2}, "a reward function takes `completions`"),
    ],
)
def test_what_cannot_be_loaded(own: str, name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        rewards.load(name, **options)
    assert message in str(raised.value)


def test_an_import_that_fails_inside_the_users_module_is_not_hidden(own: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        rewards.load("users_broken_rewards:anything")
