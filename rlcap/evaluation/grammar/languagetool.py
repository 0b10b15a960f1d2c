"""LanguageTool, which knows more rules than Harper and runs as a server: one HTTP request a caption.

It too reports everything that an editor would underline, so captions are set as sentences first and only grammar
counts: its category GRAMMAR, words said twice, and "a" against "an", which LanguageTool files under miscellaneous
spelling (languagetool-org/languagetool: WordRepeatRule.java, AvsAnRule.java).

The real server could not be had where rlcap is developed. This was tested against a small one that speaks the same
protocol (/v2/languages, /v2/check); how often LanguageTool is wrong on captions was not measured.
"""

import os
import re
from functools import cache
from typing import Any

from rlcap.evaluation.grammar.checker import Checker
from rlcap.evaluation.grammar.languagetool_server import SETTING, running_server
from rlcap.evaluation.grammar.sentence import as_sentence

LANGUAGE = "en-US"
COUNTED_CATEGORIES = frozenset({"GRAMMAR"})
COUNTED_KINDS = frozenset({"duplication"})
COUNTED_RULES = frozenset({"EN_A_VS_AN"})


def languagetool_errors(caption: str) -> list[str]:
    """The grammar errors that LanguageTool finds in one caption, each as `RULE: text`.

    Raises ValueError where there is no server to ask, RuntimeError where it no longer answers.
    """
    sentence = as_sentence(caption)
    if not sentence:
        return []
    client = _client(os.environ.get(SETTING))
    from language_tool_python.exceptions import LanguageToolError

    try:
        found = client.check(sentence)
    except (LanguageToolError, LookupError, TypeError) as error:
        raise RuntimeError(f"LanguageTool at {client.url} failed: {_shown(error)}") from error
    return [
        f"{match.rule_id}: {sentence[match.offset : match.offset + match.error_length]}"
        for match in found
        if match.category in COUNTED_CATEGORIES
        or match.rule_issue_type in COUNTED_KINDS
        or match.rule_id in COUNTED_RULES
    ]


def _missing() -> str | None:
    try:
        _client(os.environ.get(SETTING))
    except ValueError as error:
        return str(error)
    return None


@cache
def _client(setting: str | None) -> Any:
    try:
        from language_tool_python import LanguageTool
        from language_tool_python.exceptions import LanguageToolError
    except ImportError as error:
        raise ValueError(
            f"language-tool-python could not be imported ({error}): pip install 'rlcap[grammar]'"
        ) from error
    address = running_server(setting)
    try:
        return LanguageTool(LANGUAGE, remote_server=address)
    except (LanguageToolError, ValueError, AttributeError, TypeError) as error:  # silence, or another service
        raise ValueError(f"no LanguageTool answers at {address}: {_shown(error)}") from error


def _shown(error: Exception) -> str:
    # The same words whenever it is the same error, so that it is logged once.
    return re.sub(r" object at 0x\w+", "", " ".join(str(error).split()))[:300]


LANGUAGETOOL = Checker(
    name="languagetool",
    measure="languagetool_error_rate",
    text=f"percent of captions with a grammar error by LanguageTool (grammar kinds only; {SETTING} says where it is)",
    errors=languagetool_errors,
    missing=_missing,
    wanted=lambda: bool(os.environ.get(SETTING)),
    in_samples=False,
    most_samples=80,
)
