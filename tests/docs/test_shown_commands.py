"""Every `rlcap` command that a page or a recipe shows: the command, its options and its recipe are there."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
from commands import rlcap
from pages import ROOT, blocks

from rlcap.cli import COMMANDS

PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md")))]
RECIPES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "configs").glob("*/*.yaml"))]
KINDS = ("reward", "positives", "data", "show")  # words after which, or at which, a command is one of several
OPTION = re.compile(r"--[A-Za-z][\w-]*")
_COMMAND = re.compile(r"(?:^|\s)(?:-m )?rlcap (?P<rest>[^\n]*)")


def shown(page: str) -> Iterator[list[str]]:
    """The words of each command of a page, or of the comments of a recipe, after `rlcap`."""
    if page.endswith(".md"):
        texts = [block.text for block in blocks(page) if not block.is_file]
    else:
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        texts = ["\n".join(line.removeprefix("#") for line in lines if line.startswith("#   "))]
    for text in texts:
        for match in _COMMAND.finditer(text.replace("\\\n", " ")):
            rest = match["rest"]
            if rest.count("'") % 2:  # the command stands in quotes that began before it
                rest = rest.rsplit("'", 1)[0]
            lexer = shlex.shlex(rest, posix=True, punctuation_chars="|>;&")
            lexer.whitespace_split = True
            words = list(takewhile(lambda word: word[0] not in "|>;&", lexer))
            if words and words[0] in COMMANDS:
                yield words


@cache
def options(command: tuple[str, ...], folder: Path) -> set[str]:
    """What the help of a command lists."""
    done = rlcap([*command, "--help"], folder)
    assert done.code == 0, done.err
    return {*OPTION.findall(done.out), "--quiet", "--debug"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where help is written to."""
    return tmp_path_factory.mktemp("help")


@pytest.mark.parametrize("page", [page for page in (*PAGES, *RECIPES) if any(shown(page))])
def test_options_and_recipes_exist(page: str, folder: Path) -> None:
    for words in shown(page):
        command = tuple(words[:2]) if {*words[:2]} & {*KINDS} else (words[0],)
        given = {word.split("=")[0] for word in words if OPTION.match(word)}
        unknown = given - options(command, folder)
        assert not unknown, f"{page}: rlcap {' '.join(words)}"
        for option, value in pairwise(words):
            if option == "--config" and "/" in value:
                assert (ROOT / "configs" / f"{value}.yaml").is_file(), f"{page}: {value}"


@pytest.mark.parametrize("page", [page for page in PAGES if "python benchmarks/" in (ROOT / page).read_text()])
def test_benchmarks_take_these_options(page: str) -> None:
    for file, given in re.findall(
        r"python (benchmarks/\w+\.py)([^\n`]*)", (ROOT / page).read_text().replace("\\\n", " ")
    ):
        source = (ROOT / file).read_text(encoding="utf-8")
        for option in OPTION.findall(given):
            assert f'"{option}"' in source, f"{page}: {file} {option}"
