"""Flags whose value is a JSON object: the options of rewards."""

import json
from typing import Any


def json_object(text: str | None, flag: str) -> dict[str, Any]:
    """The object that a flag was given, {} where it was not; raises ValueError for anything but a JSON object."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{flag} is not JSON ({error}): {text}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{flag} must be a JSON object, not {text}")
    return value
