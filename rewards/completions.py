"""What rewards are handed: completions and columns as flat lists, checked before anything is scored."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


def texts(completions: Sequence[Any], reward: str) -> list[str]:
    """The captions as strings, from strings or from TRL's conversational lists [{"role": ..., "content": ...}].

    A conversational completion's caption is the content of its last message; content in parts ({"type": "text",
    "text": ...}) is joined. Raises ValueError naming the reward and the position of what is neither.
    """
    return [text if type(text) is str else _text(text, i, reward) for i, text in enumerate(completions)]


def _text(completion: Any, position: int, reward: str) -> str:
    if isinstance(completion, str):
        return str(completion)
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], dict):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, Sequence):
            return "".join(part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text")
    raise ValueError(
        f"{reward}: completion {position} is {completion!r}; give a string, or a list of messages whose last one has "
        '"content" (TRL\'s conversational form)'
    )


def column(values: Sequence[Any] | None, name: str, length: int, reward: str) -> Sequence[Any]:
    """The column, checked to be there and to have one value a caption; raises ValueError naming reward and column."""
    if values is None:
        raise ValueError(f"{reward}: the column {name!r} is missing; the dataset must have it (one value a caption)")
    if len(values) != length:
        raise ValueError(f"{reward}: the column {name!r} has {len(values)} values for {length} captions")
    return values


def score_distinct(keys: Sequence[Key], score: Callable[[Key], float]) -> list[float]:
    """Scores each distinct key once; one value a key, in order."""
    scores = {key: score(key) for key in dict.fromkeys(keys)}
    return [scores[key] for key in keys]
