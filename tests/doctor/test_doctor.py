"""What the doctor says of packages, surroundings and two processes that train, or cannot."""

import importlib.metadata
import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from rlcap.cli import main
from rlcap.doctor import packages
from rlcap.doctor.item import LACKING, OK, WRONG, Item, shown
from rlcap.doctor.report import as_json, as_text, healthy
from rlcap.doctor.self_test import self_test
from rlcap.doctor.surroundings import launcher, services

REQUIREMENTS = ["torch>=2.6", "rich>=13", "wandb>=0.20 ; extra == 'wandb'", "ruff>=0.9 ; extra == 'dev'"]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions that are installed, for a rlcap that requires REQUIREMENTS."""
    versions = {"torch": "2.7.1", "rich": "13.0", "wandb": "0.21"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(packages, "requires", lambda name: REQUIREMENTS)
    monkeypatch.setattr(packages, "version", version)
    return versions


def test_packages_that_are_all_there(installed: dict[str, str]) -> None:
    assert packages.required()[1:] == [Item("torch", "2.7.1"), Item("rich", "13.0")]
    assert packages.extras() == [Item("wandb", "wandb 0.21")]


def test_packages_that_are_missing_or_too_old(installed: dict[str, str]) -> None:
    del installed["wandb"], installed["rich"]
    installed["torch"] = "2.5.0"
    assert packages.required()[1:] == [
        Item("torch", "2.5.0, and rlcap needs >=2.6: pip install 'torch>=2.6'", WRONG),
        Item("rich", "not installed: pip install 'rich>=13'", WRONG),
    ]
    assert packages.extras() == [Item("wandb", "wandb is missing: pip install 'rlcap[wandb]'", LACKING)]


def test_the_report_and_its_verdict() -> None:
    report = {"machine": [Item("cores", "2"), Item("disk", "full", LACKING)], "self-test": [Item("two", "no", WRONG)]}
    assert as_text(report).splitlines() == [
        *("machine", "  cores  2", "- disk   full", "", "self-test", "! two  no", ""),
        "rlcap cannot train here: two",
    ]
    assert not healthy(report)
    assert as_json(report)["machine"][1] == {"name": "disk", "found": "full", "state": "lacking"}
    del report["self-test"]
    assert healthy(report)


def test_logins_are_told_and_keys_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert services()[2].state == LACKING
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password SECRET1\n")
    assert services()[2] == Item("W&B", "logged in at api.wandb.ai (netrc)")
    monkeypatch.setenv("WANDB_BASE_URL", "https://user:SECRET2@wandb.example.org:8080")
    monkeypatch.setenv("WANDB_API_KEY", "SECRET3")
    monkeypatch.setenv("HF_TOKEN", "SECRET4")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    said = as_text({"services": services()})
    assert "logged in at wandb.example.org (WANDB_API_KEY)" in said
    assert "offline (HF_DATASETS_OFFLINE)" in said
    assert "SECRET" not in said


def test_a_home_folder_is_not_named() -> None:
    assert shown(Path.home() / "runs") == "~/runs"
    assert shown(f"{Path.home()}s") == f"{Path.home()}s"


def test_a_world_that_is_not_whole_is_told_not_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert launcher()[1].state == WRONG
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--no-self-test", "--json"])
    assert end.value.code == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    states = {(section, item["name"]): item for section in report if section != "ok" for item in report[section]}
    assert "MPI started 4 processes" in states["launcher", "world"]["found"]
    assert states["rewards", "cider-d"]["found"] == "ready"
    assert states["rewards", "grammar"]["found"] == "needs path=DIR, made by `rlcap reward grammar`"
    assert states["packages", "torch"]["state"] == OK


@pytest.mark.slow
def test_two_processes_train() -> None:
    item = self_test(seconds=500)
    assert item.state == OK, item.found
    assert item.found.startswith("2 processes on ")


@pytest.mark.slow
def test_ranks_that_fail_are_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "datasets.py").write_text("raise ImportError('this installation is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    item = self_test(seconds=500)
    assert item.state == WRONG
    assert "exit code 1; the last stage of both: summed" in item.found
    assert "this installation is broken" in item.found


@pytest.mark.slow
def test_ranks_that_hang_are_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, time\nif 'RANK' in os.environ: time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    item = self_test(seconds=40)
    assert item.state == WRONG
    assert "no end within 40 s (--seconds gives more); the last stage of both: not started" in item.found
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "rlcap-doctor-")], capture_output=True, check=False)
    assert left.stdout == b""
