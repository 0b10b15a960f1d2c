"""Preference pairs in TRL's layouts: `chosen` and `rejected` as texts or as messages, with a prompt or with it in them."""

from collections.abc import Mapping
from typing import Any

from rlcap.data.rows import shown


def chain_of_pair(item: Mapping[str, Any], where: str) -> tuple[list[str], str | None]:
    """Return [chosen, rejected] and the prompt as text, None where there is none.

    Messages are TRL's: the last one, of the assistant, is the caption; what the user said before it, in `prompt` or in
    both lists alike, is the prompt. Pictures among the parts of a message stand for themselves and are left out.
    Raises ValueError naming `where`: another layout, several turns, or two different prompts.
    """
    chosen, own = _answer(item["chosen"], where, "chosen")
    rejected, other = _answer(item["rejected"], where, "rejected")
    if own != other:
        raise ValueError(f"{where}: chosen and rejected answer different prompts, {shown(own)} and {shown(other)}")
    given = item.get("prompt")
    if given is not None:
        own = given if isinstance(given, str) else _asked(_messages(given, where, "prompt"), where, "prompt")
    return [chosen, rejected], own


def _answer(value: Any, where: str, key: str) -> tuple[str, str | None]:
    if isinstance(value, str):
        return value, None
    *before, last = _messages(value, where, key)
    if last["role"] != "assistant":
        raise ValueError(f'{where}: the last message of "{key}" must be the assistant\'s, not of {shown(last["role"])}')
    return _text(last, where, key), _asked(before, where, key)


def _messages(value: Any, where: str, key: str) -> list[Mapping[str, Any]]:
    fits = (
        isinstance(value, list)
        and value
        and all(isinstance(m, Mapping) and {"role", "content"} <= set(m) for m in value)
    )
    if not fits:
        raise ValueError(f'{where}: "{key}" must be a text or a list of messages (role, content), not {shown(value)}')
    return value


def _asked(messages: list[Mapping[str, Any]], where: str, key: str) -> str | None:
    """What the user said; a caption answers one question, so there is at most one."""
    asked = [message for message in messages if message["role"] == "user"]
    if len(asked) > 1 or any(message["role"] not in ("user", "system") for message in messages):
        raise ValueError(
            f'{where}: "{key}" is a conversation of several turns; a caption answers one message of the user'
        )
    return _text(asked[0], where, key) if asked else None


def _text(message: Mapping[str, Any], where: str, key: str) -> str:
    content = message["content"]
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        content = " ".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        raise ValueError(f'{where}: the content of a message of "{key}" must be text, not {shown(content)}')
    return content.strip()
