"""Two processes with half the batch each, against one with the whole; and what only several processes can get wrong."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import wandb_reader
from safetensors.torch import load_file
from test_resume import arguments, learned, metrics

import rewards
from rlcap.data import load_captions

pytestmark = pytest.mark.slow
SETTINGS = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "logging_steps": 1, "dropout_off": True}


def run(
    processes: int,
    command: str,
    scenes: Path,
    captioner: Path,
    output: Path,
    environment: Mapping[str, str] | None = None,
    code: int = 0,
    **options: Any,
) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    chosen = arguments(scenes, captioner, output, {**SETTINGS, **options})
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), "-m", "rlcap", command, *map(str, chosen)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_xe_equals_one_process(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 4, "save_steps": 2, "eval_strategy": "steps", "eval_steps": 4}
    run(1, "xe", scenes, captioner_folder, tmp_path / "one", per_device_train_batch_size=6, **options)
    run(2, "xe", scenes, captioner_folder, tmp_path / "two", per_device_train_batch_size=3, **options)
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert len(one) == len(two) == 5
    for alone, shared in zip(one, two, strict=True):
        assert alone.keys() == shared.keys()
        assert {k: v for k, v in shared.items() if k != "tokens"} == pytest.approx(
            {k: v for k, v in alone.items() if k != "tokens"}, rel=1e-3, abs=1e-6
        )
    weights = [load_file(tmp_path / name / "final" / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        assert tensor.allclose(weights[1][name], atol=1e-4), name


def test_scst_goes_on_from_a_checkpoint(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"save_steps": 2, "per_device_train_batch_size": 3, "num_samples": 3, "max_new_tokens": 8}
    run(2, "scst", scenes, captioner_folder, tmp_path / "whole", max_steps=4, **options)
    run(2, "scst", scenes, captioner_folder, tmp_path / "halves", max_steps=2, **options)
    said = run(2, "scst", scenes, captioner_folder, tmp_path / "halves", max_steps=4, **options)
    assert "going on from" in said
    assert metrics(tmp_path / "halves") == metrics(tmp_path / "whole")
    assert learned(tmp_path / "halves" / "final") == learned(tmp_path / "whole" / "final")
    assert said.count("rlcap: done") == 1


def test_what_cannot_go_on_is_refused_by_both(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    options = {"save_steps": 2, "per_device_train_batch_size": 3}
    given = scenes, captioner_folder, tmp_path / "run"
    run(1, "xe", *given, max_steps=2, **options)
    started = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    said = run(2, "xe", *given, code=1, max_steps=4, **options)  # the launcher's code
    refused = f"rlcap: {tmp_path / 'run' / 'checkpoint-2'} was written by 1 process(es): go on with as many\n"
    assert refused in said
    assert "going on from" not in said
    other = run(2, "xe", *given, code=1, max_steps=4, **{**options, "seed": 1})
    assert "holds a run with other settings (seed: 42 there, 1 now)" in other
    for text in (said, other):
        assert "Connection closed" not in text
        assert "rlcap/training" not in text  # no traceback of ours
    assert json.loads((tmp_path / "run" / "run.json").read_text())["starts"] == started


def test_a_picture_that_one_of_them_cannot_decode(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes.parent, tmp_path / "scenes")
    pictures = sorted((tmp_path / "scenes" / "images").glob("train-*.png"))
    for picture in pictures[::5]:
        picture.write_text("no picture")
    options = {"max_steps": 6, "per_device_train_batch_size": 1, "max_bad_images": 0.5, "save_strategy": "no"}
    said = run(2, "xe", tmp_path / "scenes" / scenes.name, captioner_folder, tmp_path / "run", **options)
    assert "rlcap: skipped a picture" in said
    assert said.count("training picture(s) were skipped") == 1
    assert [line["step"] for line in metrics(tmp_path / "run")] == list(range(1, 7))


def test_texts_in_tables_stay_with_their_pictures(scenes: Path, captioner_folder: Path, tmp_path: Path) -> None:
    """One W&B run for both processes; each sample stands beside the id, references and reward of its own picture."""
    pytest.importorskip("wandb", reason="W&B is optional: pip install 'rlcap[wandb]'")
    options = {"max_steps": 2, "per_device_train_batch_size": 3, "num_samples": 3, "max_new_tokens": 8}
    options |= {"samples_logged": 3, "report_to": "wandb", "save_strategy": "no", "rewards": "bleu"}
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DATA_DIR": str(tmp_path / "data")}
    run(2, "scst", scenes, captioner_folder, tmp_path / "run", offline, **options)
    (folder,) = (tmp_path / "run").glob("wandb/offline-run-*")
    columns, rows = wandb_reader.table(folder, "completions")
    assert len(rows) == 2 * 3 * 3
    references = {row["image_id"]: row["references"] for row in load_captions(scenes)}
    bleu = rewards.load("bleu")
    for values in rows:
        row = dict(zip(columns, values, strict=True))
        own = references[row["image_id"]]
        assert row["references"] == "\n".join(own)
        (reward,) = bleu([row["caption"]], references=[own], image_id=[row["image_id"]])
        assert row["reward"] == pytest.approx(reward, abs=1e-6)
    assert len({dict(zip(columns, row, strict=True))["reward"] for row in rows}) > 3
