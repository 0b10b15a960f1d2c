"""Recipes: YAML files with the keys of a command, found by name, overridden on the command line, and checked by type."""

import difflib
import re
import sys
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

_UNUSED = re.compile(r"--([\w-]+)")


def recipes_directory() -> Path:
    """Where the shipped recipes are: inside the installed package, or `configs/` of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_recipes() -> list[str]:
    """The names of the shipped recipes, such as `scst/flickr8k_cider`."""
    root = recipes_directory()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of a shipped one.

    Raises ValueError naming the shipped recipes where there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = recipes_directory() / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    raise ValueError(f"no recipe {name!r}: it is no file, and the shipped ones are {', '.join(shipped_recipes())}")


def parse(argv: list[str], command: str, *types_: Any) -> tuple[Any, ...]:
    """Fills dataclasses from `--config RECIPE` and the command line, which wins; one object a dataclass.

    Raises ValueError naming the key, the value and what is allowed: for an unknown key, a wrong type, a file that is no
    YAML mapping.
    """
    from trl import TrlParser

    arguments = list(argv)
    if "--config" in arguments:
        at = arguments.index("--config") + 1
        if at == len(arguments):
            raise ValueError("--config needs the name or the path of a recipe")
        recipe = find_recipe(arguments[at])
        _check_yaml(recipe)
        arguments[at] = str(recipe)
    parser = TrlParser(list(types_), prog=f"rlcap {command}", allow_abbrev=False)
    try:
        parsed = parser.parse_args_and_config(arguments)
    except ValueError as error:
        raise ValueError(_explain(str(error), [field.name for type_ in types_ for field in fields(type_)])) from error
    except SystemExit as end:  # argparse has printed what is wrong with the command line
        sys.exit(end.code)
    return tuple(parsed)


def _check_yaml(recipe: Path) -> None:
    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{recipe} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{recipe} must hold `key: value` lines, and holds a {type(content).__name__}")


def _explain(message: str, known: list[str]) -> str:
    """TrlParser's complaint about keys nobody reads, with the nearest known key."""
    unknown = [key.replace("-", "_") for key in _UNUSED.findall(message)]
    unknown = [key for key in unknown if key not in known]
    if ("Unknown arguments" not in message and "not used by" not in message) or not unknown:
        return message
    hints = []
    for key in unknown:
        near = difflib.get_close_matches(key, known, n=1)
        hints.append(f"unknown key {key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return "; ".join(hints) + "; --help lists the keys of this command"


def check_types(instance: Any) -> None:
    """Raises ValueError where a field's value is not of the annotated type.

    Argument classes call it first in `__post_init__`, since TrlParser hands YAML values over unchecked.
    """
    hints = typing.get_type_hints(type(instance))
    for field in fields(instance):
        value, expected = getattr(instance, field.name), hints[field.name]
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
