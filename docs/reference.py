"""The pages of the documentation that are made of the code: recipe keys, commands and metrics, as Markdown."""

import contextlib
import dataclasses
import inspect
import io
import re
from enum import Enum
from typing import Any, NamedTuple, get_type_hints
from unittest import mock

import yaml
from transformers import TrainingArguments

from rlcap import cli
from rlcap.commands.reward import REWARDS
from rlcap.evaluation.metrics import FAMILIES
from rlcap.training.arguments import CaptionerArguments, CaptionerTrainingArguments, DataArguments, default_settings
from rlcap.training.comparative_arguments import ComparativeArguments
from rlcap.training.grammar import GrammarArguments
from rlcap.training.judgment_arguments import JudgmentArguments
from rlcap.training.multi_tap import MultiTapArguments
from rlcap.training.pac_arguments import PacArguments
from rlcap.training.ranking_arguments import ChainDataArguments, RankingArguments
from rlcap.training.reward_trainer import RewardArguments
from rlcap.training.scst_arguments import SCSTArguments
from rlcap.training.xe import XEArguments

TITLES = {
    DataArguments: "Data",
    CaptionerArguments: "Captioner",
    CaptionerTrainingArguments: "Training: `rlcap xe`, `rlcap scst` and `rlcap rank-dpo`",
    XEArguments: "Cross-entropy: `rlcap xe`",
    SCSTArguments: "SCST: `rlcap scst`",
    ChainDataArguments: "Chains: `rlcap rank-dpo`",
    RankingArguments: "Ranking-DPO: `rlcap rank-dpo`",
    RewardArguments: "Learned rewards: `rlcap reward pac`, `rlcap reward multi-tap` and `rlcap reward grammar`",
    PacArguments: "Dual encoders: `rlcap reward pac`",
    JudgmentArguments: "Judgments: `rlcap reward comparative` and `rlcap reward multi-tap`",
    MultiTapArguments: "MULTI-TAP: `rlcap reward multi-tap`",
    GrammarArguments: "Grammar: `rlcap reward grammar`",
    ComparativeArguments: "Comparative scorer: `rlcap reward comparative`",
}
REQUIRED = {"data", "output_dir", "model", "encoder"}  # their default is refused
WITH_RECIPE = ("xe", "scst", "rank-dpo")  # commands whose help is the keys above, and all of transformers'
# Commands whose help is that of the words behind them, each by itself.
SUBCOMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "data": (("check",),),
    "positives": (("captions",), ("pictures",)),
}
_LINE = re.compile(r"^    # > (?P<section>.+)|^    (?P<key>\w+): .*?=")
_MARK = re.compile(r"<!-- generated: (.*?) -->")


def completed(page: str) -> str:
    """A page with what is made of the code in the place of `<!-- generated: NAME -->`; KeyError for another name."""
    made = {"recipe keys": recipe_keys, "commands": commands, "metrics": metrics}
    return _MARK.sub(lambda mark: made[mark[1]](), page)


class Key(NamedTuple):
    """One key of a recipe; section: the comment `# > …` that it stands under, empty where there is none."""

    name: str
    section: str
    type: str
    default: Any
    help: str


def own_keys(arguments: type) -> list[Key]:
    """The keys that a class of arguments says something of itself: new ones, and those whose default it changes."""
    fields = {field.name: field for field in dataclasses.fields(arguments)}
    kinds = get_type_hints(arguments)  # the types of the fields are changed by whoever parses a recipe
    defaults = default_settings(arguments)
    keys, section = [], ""
    for line in inspect.getsource(arguments).splitlines():
        found = _LINE.match(line)
        if found and found["section"]:
            section = found["section"]
        elif found and found["key"] in fields:
            name = found["key"]
            kind = kinds[name]
            shown = (kind.__name__ if type(kind) is type else str(kind)).replace(" | ", " or ")
            keys.append(Key(name, section, shown, defaults[name], fields[name].metadata.get("help", "")))
    return keys


def recipe_keys() -> str:
    """Every key of ours, a table a section: ours first, then those of transformers with another default."""
    return "\n\n".join(f"## {title}\n\n{_of_class(arguments)}" for arguments, title in TITLES.items())


def _of_class(arguments: type) -> str:
    theirs = default_settings(TrainingArguments)
    keys = own_keys(arguments)
    parts = [str(arguments.__doc__).strip()]
    for section in dict.fromkeys(key.section for key in keys):
        rows = [key for key in keys if key.section == section]
        if section:
            title, _, more = re.sub(r"^Parameters (that control|of) ", "", section).partition(". ")
            parts.append("\n\n".join(["### " + title[0].upper() + title[1:], *([more] if more else [])]))
        new, changed = ([key for key in rows if (key.name in theirs) is known] for known in (False, True))
        if new:
            parts.append(_table(("key", "type", "default", "what"), (_cells(key) for key in new)))
        if changed:
            head = ("key of transformers", "type", "default here", "in transformers", "what")
            parts.append(_table(head, (_cells(key, _shown(theirs[key.name])) for key in changed)))
    return "\n\n".join(parts)


def commands() -> str:
    """The help of every command, as it stands on the terminal."""
    parts = [_code(cli.usage())]
    for name, says in cli.COMMANDS.items():
        parts.append(f"## rlcap {name}\n\n{says[0].upper()}{says[1:]}.")
        if name in WITH_RECIPE:
            parts.append(f"`rlcap {name} --config RECIPE --KEY VALUE …`, with [recipe keys](keys.md).")
        else:
            parts += [_code(help_of(name, *more)) for more in SUBCOMMANDS.get(name, ((),))]
        if name == "reward":
            parts += [_of_reward(own, what) for own, what in REWARDS.items()]
    return "\n\n".join(parts)


def _of_reward(name: str, what: str) -> str:
    """A reward's own command, whose help is its keys and all of transformers'."""
    use = f"`rlcap reward {name} --config RECIPE --KEY VALUE …`, with [recipe keys](keys.md)."
    return f"### rlcap reward {name}\n\n{what[0].upper()}{what[1:]}.\n\n{use}"


def help_of(*command: str) -> str:
    """What `rlcap COMMAND --help` prints, 100 characters wide."""
    printed = io.StringIO()
    with (
        mock.patch.dict("os.environ", {"COLUMNS": "100"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        cli.main([*command, "--help"])
    return printed.getvalue()


def metrics() -> str:
    """Every metric of `rlcap evaluate` with its family, which `--metrics` takes too."""
    rows = ((f"`{key}`", f"`{family}`", _cell(what)) for family, keys in FAMILIES.items() for key, what in keys.items())
    return _table(("key", "family", "what"), rows)


def _cells(key: Key, *more: str) -> tuple[str, ...]:
    required = key.name in REQUIRED and (key.default == "" or key.name == "output_dir")  # pac can do without an encoder
    default = "required" if required else _shown(key.default)
    return f"`{key.name}`", f"`{key.type}`", default, *more, _cell(key.help)


def _shown(default: Any) -> str:
    """A default as a recipe says it."""
    if default is None:
        return ""
    default = default.value if isinstance(default, Enum) else default
    text = yaml.safe_dump(default, default_flow_style=True, width=1000)
    text = text.removesuffix("...\n").strip()
    return f"`{text}`"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"```text\n{text.strip()}\n```"
