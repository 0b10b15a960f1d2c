"""Recipes: YAML files with the keys of a command, found by name, overridden on the command line, checked by type."""

import re
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from rlcap.disk import require_writable
from rlcap.near import did_you_mean
from rlcap.tracking.run_directory import refuse_another_command

_KEY = re.compile(r"^argument --(\w+)\S*: ")

# What the names of a command's shipped recipes begin with.
RECIPES = {
    "xe": "xe/",
    "scst": "scst/",
    "rank-dpo": "ranking_dpo/",
    "reward pac": "rewards/pac",
    "reward comparative": "rewards/comparative",
    "reward multi-tap": "rewards/multi_tap",
    "reward grammar": "rewards/grammar",
}


def recipes_directory() -> Path:
    """Where the shipped recipes are: inside the installed package, or `configs/` of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_recipes(command: str | None = None) -> list[str]:
    """The names of the shipped recipes, such as `scst/flickr8k_cider`: those of a command, or all."""
    root, prefix = recipes_directory(), RECIPES.get(command or "", "")
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return sorted(name for name in names if name.startswith(prefix))


def find_recipe(name: str, command: str | None = None) -> Path:
    """The file of a recipe given by path or by the name of a shipped one.

    Raises ValueError naming the shipped recipes, those of `command` where it is given, where there is no such file, and
    where the recipe is a shipped one of another command.
    """
    root, known = recipes_directory(), shipped_recipes(command)
    shipped = ", ".join(known)
    path = Path(name) if Path(name).is_file() else root / f"{name}.yaml"
    if not path.is_file():
        near = did_you_mean(name, known)
        raise ValueError(f"no recipe {name!r}{near}: it is no file, and the shipped ones are {shipped}")
    if command in RECIPES and path.resolve().is_relative_to(root):
        inside = path.resolve().relative_to(root).as_posix()
        owner = next((other for other, prefix in RECIPES.items() if inside.startswith(prefix)), command)
        if owner != command:
            raise ValueError(f"{name} is a recipe of `rlcap {owner}`; those of `rlcap {command}` are {shipped}")
    return path


def parse(argv: list[str], command: str, *types_: Any) -> tuple[Any, ...]:
    """Fills dataclasses from `--config RECIPE` and the command line, which wins; one object a dataclass.

    Raises ValueError naming the key, the value and what is allowed: for an unknown key, a wrong type, a file that is no
    YAML mapping; for a shipped recipe of another command; where nothing can be written to `output_dir`, and where it
    holds a run of another command.
    """
    arguments = _with_recipe_file(list(argv), command)
    parser = _parser(command, types_)
    keys = [field.name for type_ in types_ for field in fields(type_)]
    # Looked for first: a key that is written wrongly is the reason for most other complaints.
    unknown = [key for key in _recipe_of(arguments) if key not in (*keys, "env")]
    _, rest = parser.parse_known_args(_without_recipe(arguments))
    unknown += [argument.split("=")[0].lstrip("-").replace("-", "_") for argument in rest if argument.startswith("--")]
    if unknown:
        raise ValueError("; ".join(_hint(key, keys) for key in unknown) + f"; rlcap {command} --help lists the keys")
    if rest:
        raise ValueError(f"what is {' '.join(rest)!r} for? Every value follows its key: --key value")
    parsed = tuple(parser.parse_args_and_config(arguments))
    for own in parsed:
        if "output_dir" in {field.name for field in fields(own)}:
            require_writable(Path(own.output_dir), "output_dir")  # before anything is loaded
            refuse_another_command(Path(own.output_dir), command)
    return parsed


def _with_recipe_file(arguments: list[str], command: str) -> list[str]:
    """The arguments, with `--config NAME` or `--config=NAME` as `--config FILE`."""
    for at, argument in enumerate(arguments):
        if argument.startswith("--config="):
            arguments[at : at + 1] = ["--config", argument.removeprefix("--config=")]
    if "--config" in arguments:
        at = arguments.index("--config") + 1
        if at == len(arguments):
            raise ValueError("--config needs the name or the path of a recipe")
        arguments[at] = str(find_recipe(arguments[at], command))
    return arguments


def _recipe_of(arguments: list[str]) -> dict[str, Any]:
    """The content of the recipe that the arguments name."""
    if "--config" not in arguments:
        return {}
    recipe = arguments[arguments.index("--config") + 1]
    try:
        content = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{recipe}{where}: this is no YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{recipe} is no YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{recipe} must hold `key: value` lines, and holds {content!r:.80}")
    for key, value in content.items():
        if key.endswith("_strategy") and value is False:
            raise ValueError(f'{recipe}: YAML reads a bare `no` as false; write {key}: "no"')
    return content


def _without_recipe(arguments: list[str]) -> list[str]:
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    return arguments[:at] + arguments[at + 2 :]


def _parser(command: str, types_: tuple[Any, ...]) -> Any:
    from transformers import TrainingArguments
    from trl import TrlParser

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            raise ValueError(_KEY.sub(r"\1: ", message) + f"; rlcap {command} --help lists the keys")

    parser = Parser(
        list(types_),
        prog=f"rlcap {command}",
        usage=f"rlcap {command} [--config RECIPE] [--KEY VALUE ...]",
        description="RECIPE is a YAML file of keys and values, or the name of a shipped one; the command line wins. "
        f"Shipped are {', '.join(shipped_recipes(command))}. The keys of rlcap come first, then those of "
        "transformers.TrainingArguments.",
        allow_abbrev=False,
    )
    inherited = {field.name for field in fields(TrainingArguments)}
    parser._optionals._group_actions.sort(key=lambda action: action.dest in inherited)
    return parser


def _hint(key: str, known: list[str]) -> str:
    return f"unknown key {key!r}{did_you_mean(key, known)}"


def check_types(instance: Any) -> None:
    """Raises ValueError where a field's value is not of the annotated type; one text becomes a list of it.

    Argument classes call it first in `__post_init__`, since TrlParser hands YAML values over unchecked.
    """
    hints = typing.get_type_hints(type(instance))
    for field in fields(instance):
        value, expected = getattr(instance, field.name), hints[field.name]
        if isinstance(value, str) and expected in (list[str], list[str] | None):  # as on the command line
            value = [value]
            setattr(instance, field.name, value)
        if _checkable(expected) and not _is_a(value, expected):
            raise ValueError(f"{field.name}: {value!r} is a {type(value).__name__}; expected {_describe(expected)}")


def _checkable(expected: Any) -> bool:
    """Whether a type is made of plain ones; transformers' own richer types are converted and checked by itself."""
    options = typing.get_args(expected)
    return all(map(_checkable, options)) if options else expected in (int, float, bool, str, dict, type(None))


def _is_a(value: Any, expected: Any) -> bool:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, option) for option in arguments)
    if origin is list:
        return isinstance(value, list) and all(_is_a(item, arguments[0]) for item in value)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or expected)


def _describe(expected: Any) -> str:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("nothing" if option is type(None) else _describe(option) for option in arguments)
    if origin is list:
        return f"a list of {_describe(arguments[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "key: value pairs"}
    return names.get(expected, str(expected))
