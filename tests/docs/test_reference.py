"""The pages that are made of the code: every key, command and metric is in them, and says something."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
from pages import ROOT
from reference import REQUIRED, TITLES, completed, own_keys
from transformers import HfArgumentParser, TrainingArguments

import rlcap.training
from rlcap.cli import COMMANDS
from rlcap.commands.reward import REWARDS
from rlcap.evaluation.metrics import METRICS
from rlcap.training.arguments import CaptionerTrainingArguments, DataArguments, default_settings
from rlcap.training.grammar import GrammarArguments
from rlcap.training.multi_tap import MultiTapArguments
from rlcap.training.xe import XEArguments


def page(name: str) -> str:
    return completed((ROOT / "docs" / name).read_text(encoding="utf-8"))


def test_every_class_of_arguments_is_in_the_reference() -> None:
    modules = [
        importlib.import_module(f"rlcap.training.{m.name}") for m in pkgutil.iter_modules(rlcap.training.__path__)
    ]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    }
    assert {value for value in classes if value.__name__.endswith("Arguments")} == set(TITLES)


@pytest.mark.parametrize("arguments", TITLES)
def test_every_key_of_ours_is_there_and_says_something(arguments: type) -> None:
    theirs = default_settings(TrainingArguments) if issubclass(arguments, TrainingArguments) else {}
    above = [base for base in arguments.__mro__[1:] if base in TITLES]
    known = theirs | (default_settings(above[0]) if above else {})
    new = {key for key, value in default_settings(arguments).items() if key not in known or known[key] != value}
    keys = {key.name: key for key in own_keys(arguments)}
    assert new <= set(keys)
    shown = page("keys.md")
    for key in keys.values():
        assert key.help, f"{key.name} has no help"
        assert f"| `{key.name}` |" in shown


def test_the_table_says_type_default_and_what_transformers_has() -> None:
    HfArgumentParser(XEArguments)  # changes the types of the fields that it reads
    lines = page("keys.md").splitlines()
    assert (
        "| `captions_per_image` | `int or None` |  | references drawn a picture and step; default: all of them |"
        in lines
    )
    assert any(line.startswith("| `rewards` | `list[str]` | `[cider-d]` | built-in names") for line in lines)
    assert "| `learning_rate` | `float` | `5.0e-06` | `5.0e-05` | peak learning rate |" in lines
    assert "### Sampling" in lines


def test_required_keys_are_refused_where_they_are_not_set() -> None:
    refused = set()
    given = {"data": "x", "output_dir": "y"}
    cases = {DataArguments: {}, CaptionerTrainingArguments: {}, MultiTapArguments: given, GrammarArguments: given}
    for arguments, known in cases.items():
        with pytest.raises(ValueError) as error:
            arguments(**known)
        refused.add(str(error.value).split()[0])
    assert refused == REQUIRED


def test_commands_and_metrics_are_all_there() -> None:
    commands, metrics = page("commands.md"), page("metrics.md")
    for command in COMMANDS:
        assert f"## rlcap {command}\n" in commands
    for reward in REWARDS:
        assert f"### rlcap reward {reward}\n" in commands
    for flag in ("--per-caption", "--num-beams", "--captions-only", "--pictures", "--report-to", "--max-bad-images"):
        assert flag in commands
    for metric in set(METRICS) - {"captions"}:
        assert f"| `{metric}` |" in metrics
