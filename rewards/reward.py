"""What a reward is, and how a plain reward function becomes one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

# What a trainer hands every reward beside the dataset's columns.
ALWAYS_GIVEN = frozenset({"completions", "trainer_state", "log_extra", "log_metric"})


@runtime_checkable
class Reward(Protocol):
    """TRL's reward call with the columns that it reads: one value a caption, None where it cannot score."""

    __name__: str
    needs: frozenset[str]

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float] | list[float | None]: ...


@runtime_checkable
class Described(Protocol):
    """A reward that says what determines its score."""

    def describe(self) -> Mapping[str, Any]: ...


def describe(reward: Reward) -> dict[str, Any]:
    """What determines a reward's score, for the record of a run; the name alone where the reward does not say."""
    return dict(reward.describe()) if isinstance(reward, Described) else {"name": reward.__name__}


def opens_lazily(reward: Reward) -> bool:
    """Whether a reward says, by `lazy_images = True`, that it takes `images` as LazyImages.

    It then looks only at pictures whose image_id it does not know yet.
    """
    return getattr(reward, "lazy_images", False)


class FunctionReward:
    """A plain TRL reward function, `f(completions, **columns)`, with `needs` read off its signature.

    It needs the parameters that have no default, and `images` whenever it names them (they are decoded for those that
    need them alone); it is handed only the columns that it takes. Raises ValueError where it does not take
    `completions`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = _name(function)
        parameters = inspect.signature(function).parameters
        if "completions" not in parameters:
            raise ValueError(
                f"the reward {self.__name__} takes ({', '.join(parameters)}); a reward function takes `completions`"
            )
        self._function = function
        named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        self._takes = None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else frozenset(named)
        needed = {n for n, p in named.items() if p.default is p.empty or n == "images"}
        self.needs = frozenset(needed - ALWAYS_GIVEN)

    def __call__(self, completions: Sequence[Any], **columns: Any) -> Any:
        """Whatever the function returns, a coroutine where it is `async`."""
        if self._takes is not None:
            columns = {name: values for name, values in columns.items() if name in self._takes}
        return self._function(completions=completions, **columns)

    def describe(self) -> dict[str, Any]:
        """What determines the score: where the function comes from."""
        module = inspect.getmodule(self._function)
        return {"name": self.__name__, "function": f"{module.__name__ if module else '?'}:{self.__name__}"}


def as_reward(reward: Any) -> Reward:
    """The reward itself where it says what it needs, else the function as a FunctionReward.

    Raises ValueError for what cannot be called.
    """
    if isinstance(reward, Reward):
        return reward
    if not callable(reward):
        raise ValueError(f"{reward!r} is no reward: it cannot be called")
    return FunctionReward(reward)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)  # an object that can be called may have no name
