"""W&B that does not answer, or has no key: told once, soon, and the training's own files are what they would be."""

import time
from pathlib import Path

import pytest
import wandb_reader
from test_wandb_callback import _train

from rlcap.tracking import run_directory

wandb = pytest.importorskip("wandb", reason="W&B is optional: pip install 'rlcap[wandb]'")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment in which W&B would be reached, without a key, and nothing listens where it should be."""
    for name in ("WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_DIR", "WANDB_RESUME", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_LOGIN_TIMEOUT", "WANDB_FINISH_TIMEOUT"):  # which the callback sets: put back after the test
        monkeypatch.setenv(name, "60")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the port of "discard"
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    return monkeypatch


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "0123456789abcdef0123456789abcdef01234567"], ids=["no key", "unreachable"])
def test_the_run_is_kept_offline(
    key: str, online: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if key:
        online.setenv("WANDB_API_KEY", key)
    run_dir = tmp_path / "run"
    run_directory.append_metrics(run_dir / "metrics.jsonl", 1, {"reward": 0.1})
    before = (run_dir / "metrics.jsonl").read_bytes()
    started = time.monotonic()
    _train(run_dir, range(1, 4))
    assert time.monotonic() - started < 120  # 30 for the attempt; the rest is for a machine that is busy
    out = capsys.readouterr().out
    assert out.count("rlcap: W&B failed") == 1
    assert f"the run is kept offline in {run_dir / 'wandb'} (wandb sync sends it later)" in out
    assert key == "" or key not in out
    (folder,) = run_dir.glob("wandb/offline-run-*")
    history = [row for row in wandb_reader.history(folder) if "reward" in row]
    assert [row["train/global_step"] for row in history] == [1, 2, 3]
    assert (run_dir / "metrics.jsonl").read_bytes() == before
