"""The `rlcap` command: quick help, commands, messages."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlcap import __version__
from rlcap.cli import COMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlcap", *arguments], check=False, capture_output=True, text=True, timeout=120
    )


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        done = run("--help")
        seconds.append(time.perf_counter() - started)
    assert done.returncode == 0
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    assert min(seconds) < 0.5
    code = (
        "import sys; from rlcap.cli import main; main(['--help']); main(['--version']); "
        "heavy = {'torch', 'transformers', 'numpy', 'datasets', 'PIL', 'trl', 'yaml'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_users_errors_are_one_message_and_debug_shows_where() -> None:
    wrong = ("caption", "--captioner", "nowhere", "--images", "nothing.png")
    done = run(*wrong)
    assert done.returncode == 2
    assert done.stderr == "rlcap: nothing.png: there is no such picture\n"
    for debug in ((*wrong, "--debug"), ("--debug", *wrong)):
        done = run(*debug)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ValueError: nothing.png: there is no such picture" in done.stderr


def test_no_command_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        main(arguments)
        assert "usage: rlcap COMMAND" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"rlcap {__version__}\n"


def test_an_unknown_command_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["trian"])
    assert end.value.code == 2
    assert "there is no command 'trian'; there are: quickstart, xe, scst" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chanis"], "there is no command 'chanis' (did you mean 'chains'?)"),
        (["chains", "sho", "chains.jsonl"], "there is no rlcap chains 'sho' (did you mean 'show'?); there is show"),
        (["data", "chek", "captions.jsonl"], "there is no rlcap data 'chek' (did you mean 'check'?)"),
        (
            ["positives", "caption"],
            "there is no rlcap positives 'caption' (did you mean 'captions'?); there is captions and",
        ),
        (["reward", "gramar"], "there is no reward 'gramar' to train (did you mean 'grammar'?)"),
        (["xe", "--config", "xe/flickr8"], "no recipe 'xe/flickr8' (did you mean 'xe/flickr8k'?)"),
    ],
)
def test_what_was_probably_meant_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_the_working_directory_is_looked_in_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console script's own path has not got it, and users' rewards are there."""
    (tmp_path / "a_reward_of_the_user.py").write_text("VALUE = 3\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["report", "nowhere"])
    assert sys.path[-1] == str(tmp_path)
    assert importlib.import_module("a_reward_of_the_user").VALUE == 3


@pytest.mark.parametrize(
    "command", ["caption", "features", "evaluate", "quickstart", "score", "agreement", "reward", "rank-eval"]
)
def test_each_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: rlcap {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([command, "--no-such-flag"])
    assert end.value.code == 2
