"""Recipes: found by name or path, overridden on the command line, unknown keys and wrong types told."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rlcap.recipes import RECIPES, check_types, find_recipe, parse, recipes_directory, shipped_recipes
from rlcap.tracking.run_directory import write_run


@dataclass
class Where:
    data: str = "nothing"
    images: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.data == "nothing":
            raise ValueError("data is missing")


@dataclass
class How:
    learning_rate: float = 1e-4
    num_samples: int = 5
    rewards: list[str] = field(default_factory=lambda: ["cider-d"])
    reward_options: dict | str | None = None
    dropout_off: bool = True
    eval_strategy: str = "no"

    def __post_init__(self) -> None:
        check_types(self)


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_defaults(tmp_path: Path) -> None:
    path = recipe(
        tmp_path, "data: a.json\nlearning_rate: 5e-5\nrewards: [bleu, cider-d]\nreward_options: {bleu: {order: 4}}\n"
    )
    for config in (["--config", path], [f"--config={path}"]):
        where, how = parse([*config, "--data", "b.json", "--num-samples", "3"], "scst", Where, How)
        assert where == Where(data="b.json")
        assert how == How(5e-5, 3, ["bleu", "cider-d"], {"bleu": {"order": 4}}, True, "no")
    one = recipe(tmp_path, "data: x\nrewards: cider-d")
    assert parse(["--config", one], "scst", Where, How)[1].rewards == ["cider-d"]
    assert parse(["--data", "x", "--dropout_off", "false"], "scst", Where, How)[1].dropout_off is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown key 'learning_rat' (did you mean 'learning_rate'?)"),
        ("zzz: 1\nnum_sample: 3", "unknown key 'zzz'; unknown key 'num_sample' (did you mean 'num_samples'?)"),
        ("data: x\nnum_samples: 2.5", "num_samples: 2.5 is a float; expected a whole number"),
        ("data: x\nnum_samples: true", "num_samples: True is a bool; expected a whole number"),
        ("data: x\nlearning_rate: fast", "learning_rate: invalid float value: 'fast'"),
        ("data: x\nlearning_rate: [1]", "learning_rate: [1] is a list; expected a number"),
        ("data: x\nrewards: [1]", "rewards: [1] is a list; expected a list of text"),
        ("data: 5", "data: 5 is a int; expected text"),
        ("data: x\neval_strategy: no", 'YAML reads a bare `no` as false; write eval_strategy: "no"'),
        ("- a\n- b", "must hold `key: value` lines, and holds ['a', 'b']"),
        ("data: x\nrewards: [a", "recipe.yaml, line 2, column 12: this is no YAML (expected ',' or ']', but got"),
        ("learning_rate: 1", "data is missing"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(["--config", recipe(tmp_path, text)], "scst", Where, How)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dta", "x"], "unknown key 'dta' (did you mean 'data'?); rlcap scst --help lists the keys"),
        (["--data", "x", "--learning-rat=3"], "unknown key 'learning_rat' (did you mean 'learning_rate'?)"),
        (["--data", "x", "stray"], "what is 'stray' for?"),
        (["--data", "x", "--num_samples", "2.5"], "num_samples: invalid int value: '2.5'"),
        (["--data"], "data: expected one argument"),
        (["--config"], "--config needs the name or the path of a recipe"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(arguments, "scst", Where, How)


def test_help_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--help"], "scst", Where, How)
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "--num_samples" in said
    assert "scst/flickr8k_cider" in said
    assert "xe/flickr8k" not in said


def test_shipped_recipes_are_found_by_name() -> None:
    names = shipped_recipes()
    assert {"xe/flickr8k", "scst/flickr8k_cider"} <= set(names)
    for name in names:
        assert find_recipe(name) == recipes_directory() / f"{name}.yaml"
    with pytest.raises(ValueError, match=f"the shipped ones are .*{re.escape(names[0])}"):
        find_recipe("scst/flickr9k")


def test_a_shipped_recipe_is_for_its_own_command(tmp_path: Path) -> None:
    assert sorted(name for command in RECIPES for name in shipped_recipes(command)) == shipped_recipes()
    refused = r" is a recipe of `rlcap xe`; those of `rlcap rank-dpo` are ranking_dpo/binary, .*plackett_luce$"
    for name in ("xe/flickr8k", str(recipes_directory() / "xe" / "flickr8k.yaml")):
        with pytest.raises(ValueError, match=refused):
            parse(["--config", name], "rank-dpo", Where, How)
    with pytest.raises(ValueError, match="is a recipe of `rlcap reward pac`; those of `rlcap reward multi-tap` are"):
        find_recipe("rewards/pac", "reward multi-tap")
    with pytest.raises(
        ValueError,
        match=r"no recipe 'xe/flickr9k' \(did you mean 'xe/flickr8k'\?\): it is no file, .* are xe/\w+$",
    ):
        find_recipe("xe/flickr9k", "xe")
    own = tmp_path / "own.yaml"
    own.write_bytes(find_recipe("xe/flickr8k").read_bytes())
    assert find_recipe(str(own), "rank-dpo") == own


def test_a_folder_of_another_command_is_refused_at_once(tmp_path: Path) -> None:
    @dataclass
    class Run(How):
        output_dir: str = str(tmp_path)

    write_run(tmp_path, command="xe", settings={}, seed=0)
    given = ["--learning_rate", "1"]
    parse(given, "rank-dpo", Run)  # nothing was trained there
    (tmp_path / "metrics.jsonl").touch()
    parse(given, "xe", Run)
    with pytest.raises(ValueError, match="holds a run of `rlcap xe`; you started `rlcap rank-dpo`: choose another"):
        parse(given, "rank-dpo", Run)


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_hold_known_keys_of_the_right_types(name: str, tmp_path: Path) -> None:
    from rlcap.training.arguments import CaptionerArguments, DataArguments
    from rlcap.training.ranking_arguments import RankingArguments
    from rlcap.training.scst_arguments import SCSTArguments
    from rlcap.training.xe import XEArguments

    command = next(command for command in RECIPES if name in shipped_recipes(command))
    if command.startswith("reward "):
        _reward_recipe(name, command, tmp_path)
        return
    argument_class = {"xe": XEArguments, "scst": SCSTArguments, "rank-dpo": RankingArguments}[command]
    paths = ["--data", "captions.json", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    given = find_recipe(name).read_text()
    if "captioner:" not in given and "\nvision:" not in given:
        paths += ["--vision", "somewhere"] if command == "xe" else ["--captioner", "somewhere"]
    data, _, args = parse(["--config", name, *paths], command, DataArguments, CaptionerArguments, argument_class)
    assert data.data == "captions.json"
    assert isinstance(args, argument_class)


def _reward_recipe(name: str, command: str, output: Path) -> None:
    from rlcap.training.arguments import DataArguments
    from rlcap.training.comparative_arguments import ComparativeArguments
    from rlcap.training.grammar import GrammarArguments
    from rlcap.training.multi_tap import MultiTapArguments
    from rlcap.training.pac_arguments import PacArguments

    reward = name.split("/")[1]
    argument_class, needed = {
        "comparative": (ComparativeArguments, []),
        "grammar": (GrammarArguments, ["--encoder", "somewhere", "--use_cpu", "true"]),
        "pac": (PacArguments, ["--encoder", "somewhere", "--use_cpu", "true"]),
        "multi_tap": (MultiTapArguments, ["--model", "somewhere", "--use_cpu", "true"]),
    }[reward]
    paths = ["--data", "captions.json", "--output_dir", str(output), *needed]
    classes = (DataArguments, argument_class) if reward == "pac" else (argument_class,)
    parsed = parse(["--config", name, *paths], command, *classes)
    assert isinstance(parsed[-1], argument_class)
    assert parsed[0].data == "captions.json"
