"""Runs killed by SIGKILL at chosen moments and started again by the same command end like one that was not killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Moment, Result, rlcap

import captioners

pytestmark = pytest.mark.slow
XE = {
    "max_steps": 14,  # four steps an epoch: the run ends in the middle of one
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "learning_rate": 3e-3,
    "save_steps": 3,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "captions_per_image": 2,
    "connector_learning_rate": 1e-3,
}


def arguments(scenes: Path, captioner: Path, output: Path, options: dict[str, Any]) -> list[Any]:
    fixed = {"data": scenes, "captioner": captioner, "output_dir": output, "use_cpu": True, "eval_num_beams": 1}
    quiet = {"disable_tqdm": True, "eval_max_new_tokens": 12}
    return [text for key, value in {**fixed, **quiet, **options}.items() for text in (f"--{key}", value)]


def metrics(run_dir: Path) -> list[dict[str, float]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def learned(folder: Path) -> dict[str, bytes]:
    """All files but the card, which names the run's folder, and the checksums, of which one is the card's."""
    return {name: content for name, content in files(folder).items() if name not in ("README.md", "complete.json")}


def assert_same(killed: Path, whole: Path, folders: tuple[str, ...] = ("final", "best", "captions")) -> None:
    assert metrics(killed) == metrics(whole)
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    for folder in folders:
        assert learned(killed / folder) == learned(whole / folder), folder


class Chain:
    """One command, run whole in one folder, and again and again in another one."""

    def __init__(self, command: str, options: dict[str, Any], scenes: Path, captioner: Path, folder: Path) -> None:
        self.whole, self.killed, self.folder = folder / "whole", folder / "killed", folder
        self._arguments = [
            [command, *arguments(scenes, captioner, output, options)] for output in (self.whole, self.killed)
        ]

    def run_whole(self) -> None:
        result = rlcap(self._arguments[0], self.folder)
        assert result.code == 0, result.err

    def kill(self, event: str, pattern: str, count: int = 1) -> Result:
        return self.tell(Moment(event, pattern, count), code=-9)

    def tell(self, moment: Moment, code: int) -> Result:
        result = rlcap(self._arguments[1], self.folder, moment)
        assert result.code == code, (result.code, result.out, result.err)
        return result

    def finish(self) -> Result:
        result = rlcap(self._arguments[1], self.folder)
        assert result.code == 0, result.err
        return result

    def checkpoints(self) -> set[str]:
        return {path.name for path in self.killed.glob("checkpoint-*")}


def test_xe_with_accumulation_and_dropout(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    chain = Chain("xe", XE, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    steps = [line["step"] for line in metrics(chain.whole)]
    assert steps == [2, 4, 5, 6, 8, 10, 10, 12, 14, 14]
    assert chain.checkpoints() == set()

    chain.kill("os.rename", r"/checkpoint-3 ")  # all is written, and not yet in its place
    assert chain.checkpoints() == set()
    assert [line["step"] for line in metrics(chain.killed)] == [2]  # dropped by the next start, which begins anew
    assert "going on" not in chain.kill("open", r"saving\.unfinished/checkpoint-6/trainer_state\.json").out
    assert chain.checkpoints() == {"checkpoint-3"}
    assert f"going on from {chain.killed / 'checkpoint-3'}" in chain.kill("open", r"\.png", 27).out  # within a step
    chain.kill("open", r"eval-000005\.json")  # measured and logged, `best/` not yet saved
    chain.kill("os.rename", r"/best\.unfinished \S+/best$")
    assert not (chain.killed / "best").exists()
    chain.kill("os.rename", r"/checkpoint-12 ")
    assert chain.checkpoints() == {"checkpoint-6", "checkpoint-9"}

    damaged = chain.killed / "checkpoint-9" / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    out = chain.kill("os.rename", r"/final\.unfinished \S+/final$").out
    assert f"{chain.killed / 'checkpoint-9'} is left aside: model.safetensors is not as it was written" in out
    assert f"going on from {chain.killed / 'checkpoint-6'}" in out
    assert not (chain.killed / "final").exists()
    assert f"going on from {chain.killed / 'checkpoint-14'}" in chain.finish().out
    assert_same(chain.killed, chain.whole)

    lines = metrics(chain.killed)
    chain.finish()  # a run that has ended stays as it is
    assert metrics(chain.killed) == lines
    assert_same(chain.killed, chain.whole)


def test_xe_by_epochs_with_workers_and_early_stopping(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {
        "num_train_epochs": 9,
        "per_device_train_batch_size": 6,  # four steps an epoch
        "learning_rate": 3e-3,
        "save_steps": 2,
        "logging_steps": 3,
        "eval_strategy": "epoch",
        "metric_for_best_model": "bad_ending_rate",
        "early_stopping_patience": 2,
        "dataloader_num_workers": 2,
    }
    chain = Chain("xe", options, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    last = metrics(chain.whole)[-1]["step"]
    assert last < 36  # stopped early
    evaluated = [line["step"] for line in metrics(chain.whole) if "eval/cider" in line]
    assert evaluated == list(range(4, last + 1, 4))

    chain.kill("open", r"eval-000004\.json")
    chain.kill("os.rename", r"/checkpoint-4 ")  # after the evaluation, or a resume would never make it
    assert chain.checkpoints() == {"checkpoint-2"}
    chain.kill("os.rename", r"/checkpoint-6 ")
    assert f"going on from {chain.killed / 'checkpoint-4'}" in chain.kill("os.rename", rf"/checkpoint-{last} ").out
    chain.kill("os.rename", r"/final\.unfinished \S+/final$")
    assert f"going on from {chain.killed / f'checkpoint-{last}'}" in chain.finish().out
    assert_same(chain.killed, chain.whole)


def test_scst(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {
        **{key: value for key, value in XE.items() if key != "captions_per_image"},
        "max_steps": 8,
        "eval_on_start": True,
        "early_stopping_patience": 9,
        "baseline": "greedy",
        "num_samples": 3,
        "max_new_tokens": 10,
        "kl_beta": 0.1,
        "xe_weight": 0.3,
        "dataloader_num_workers": 1,
    }
    chain = Chain("scst", options, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    assert [line["step"] for line in metrics(chain.whole) if "eval/cider" in line] == [0, 5, 8]
    assert {"kl", "xe_loss", "repetition/rep_2"} <= metrics(chain.whole)[1].keys()
    chain.kill("open", r"rlcap_state_0\.json")
    chain.kill("os.rename", r"/checkpoint-6 ")
    assert chain.checkpoints() == {"checkpoint-3"}
    chain.kill("os.rename", r"/checkpoint-8 ")
    assert f"going on from {chain.killed / 'checkpoint-6'}" in chain.finish().out
    assert_same(chain.killed, chain.whole)


def test_scst_with_several_updates_on_the_same_samples(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 12, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "save_steps": 4}
    options |= {"num_iterations": 2, "learning_rate": 3e-3, "num_samples": 3, "max_new_tokens": 10, "logging_steps": 3}
    chain = Chain("scst", options, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    chain.kill("open", r"\.png", 60)
    chain.kill("os.rename", r"/checkpoint-12 ")
    assert f"going on from {chain.killed / 'checkpoint-8'}" in chain.finish().out
    assert_same(chain.killed, chain.whole)


def test_other_settings_are_refused(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    run = tmp_path / "run"
    assert rlcap(["xe", *arguments(scenes, captioner_folder, run, options)], tmp_path).code == 0
    before = files(run)
    options |= {"learning_rate": 2e-3}
    refused = rlcap(["xe", *arguments(scenes, captioner_folder, run, options)], tmp_path)
    assert refused.code == 2
    assert "learning_rate: 0.001 there, 0.002 now" in refused.err
    assert "Traceback" not in refused.err
    assert files(run) == before
    longer = options | {"learning_rate": 1e-3, "max_steps": 3}
    assert rlcap(["xe", *arguments(scenes, captioner_folder, run, longer)], tmp_path).code == 0
    assert (run / "checkpoint-3").is_dir()


def test_another_captioner_under_the_same_name_is_refused(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    captioner = captioners.load(captioner_folder)
    captioner.save_pretrained(start)
    options = {"max_steps": 2, "save_strategy": "no"}
    assert rlcap(["xe", *arguments(scenes, start, tmp_path / "run", options)], tmp_path).code == 0
    with torch.no_grad():
        next(captioner.parameters()).mul_(1.3)
    captioner.save_pretrained(start)
    refused = rlcap(["xe", *arguments(scenes, start, tmp_path / "run", options)], tmp_path)
    assert refused.code == 2
    assert "captioner_weights: 'sha256:" in refused.err


def test_a_finished_run_without_checkpoints_stays(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 2, "save_strategy": "no"}
    run = tmp_path / "run"
    assert rlcap(["xe", *arguments(scenes, captioner_folder, run, options)], tmp_path).code == 0
    before = files(run)
    refused = rlcap(["xe", *arguments(scenes, captioner_folder, run, options | {"seed": 1})], tmp_path)
    assert refused.code == 2
    assert "holds a run with other settings (seed: 42 there, 1 now" in refused.err
    assert files(run) == before


def test_python_m_rlcap_killed_from_outside(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    chain = Chain("xe", XE, scenes, captioner_folder, tmp_path)
    chain.run_whole()
    command = [sys.executable, "-m", "rlcap", "xe", *map(str, arguments(scenes, captioner_folder, chain.killed, XE))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not chain.checkpoints():
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -9
    again = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "going on from" in again.stdout
    assert_same(chain.killed, chain.whole)
