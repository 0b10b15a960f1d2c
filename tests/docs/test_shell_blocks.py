"""Shell blocks of the README, the tutorial and the page on TRL run, on drawn scenes and tiny models, or say why not.

The blocks run in their order, in a folder in which their data and models stand under the names they use. What
a block says is changed only as it stands in BLOCKS, which has every block of these pages.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import lvlms
import pytest
import torch
from commands import rlcap
from pages import ROOT, blocks
from small import scene_captioner
from transformers import AutoProcessor, BitImageProcessor, Dinov2Config, Dinov2Model

from rlcap.data import load_captions
from rlcap.data.scenes import make_scenes


@dataclass(frozen=True)
class Run:
    """Runs, with `what` replaced by `by`."""

    what: str = ""
    by: str = ""


@dataclass(frozen=True)
class NotRun:
    """Does not run, and why."""

    why: str


TWO_STEPS = Run("--output_dir", "--max_steps 2 --logging_steps 1 --dataloader_num_workers 0 --output_dir")
NEEDS_NETWORK = NotRun("sets up .venv over the network, then trains for minutes; `.ci/run` sets up and tests that way")

BLOCKS: dict[str, dict[str, Run | NotRun]] = {
    "README.md": {
        "Two commands, 1": NEEDS_NETWORK,
        "Your own data and your own captioner, 1": TWO_STEPS,
        "Your own data and your own captioner, 2": TWO_STEPS,
    },
    "docs/from-trl.md": {
        "Rewards, both ways, 1": TWO_STEPS,
        "Rewards, both ways, 2": Run(),
    },
    "docs/tutorial.md": {
        "1. Install, and see it work, 1": NEEDS_NETWORK,
        "2. Your data, 1": Run("2000, 100, 200", "24, 6, 6"),
        "2. Your data, 2": Run(),
        "3. What the vision model sees, 1": Run(),
        "4. Cross-entropy, 1": TWO_STEPS,
        "5. SCST, 1": TWO_STEPS,
        "6. A reward of your own, 1": TWO_STEPS,
        "7. Rank captions, 1": Run("--output", "--per-picture 1 --output"),
        "7. Rank captions, 2": TWO_STEPS,
        "8. What did it bring?, 1": Run(),
        "8. What did it bring?, 2": Run(),
    },
}

FILES: dict[str, dict[str, Run]] = {
    "docs/from-trl.md": {
        "grpo.py": Run(
            'output_dir="runs/grpo"',
            'output_dir="runs/grpo", max_steps=2, max_completion_length=6, use_cpu=True, bf16=False, report_to="none"',
        )
    }
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader is."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def lay_out_readme(folder: Path) -> None:
    """`dataset_coco.json` (Karpathy's layout), its pictures in `coco/`, and a tiny captioner by its Hub id's name."""
    drawn = make_scenes(folder / "drawn", 24, 6, 0, seed=0, size=32)
    scenes = load_captions(drawn)
    shutil.copytree(drawn.parent / "images", folder / "coco")
    images = [
        {
            "filename": Path(row["image"]).name,
            "split": row["split"],
            "sentences": [{"raw": caption} for caption in row["references"]],
        }
        for row in scenes
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images}))
    captioner = scene_captioner(scenes, width=32, layers=1)
    captioner.save_pretrained(folder / "nlpconnect" / "vit-gpt2-image-captioning")


def lay_out_tutorial(folder: Path) -> None:
    """A tiny vision model of the kind, and by the name, of the one that the tutorial downloads."""
    torch.manual_seed(0)
    vision = folder / "facebook" / "dinov2-small"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(vision)
    BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(vision)


def lay_out_from_trl(folder: Path) -> None:
    """A trained captioner and its data, and a tiny LVLM by its Hub id's name."""
    lay_out_readme(folder)
    (folder / "dataset_coco.json").rename(folder / "dataset_flickr8k.json")
    (folder / "coco").rename(folder / "images")
    (folder / "runs" / "xe").mkdir(parents=True)
    (folder / "nlpconnect" / "vit-gpt2-image-captioning").rename(folder / "runs" / "xe" / "best")
    lvlm = lvlms.llava(folder / "HuggingFaceTB" / "SmolVLM-256M-Instruct")
    processor = AutoProcessor.from_pretrained(lvlm)
    processor.tokenizer.eos_token = "</s>"
    processor.save_pretrained(lvlm)


def changed(text: str, how: Run) -> str:
    """A block as it runs here."""
    return text.replace(how.what, how.by) if how.what else text


def run(page: str, folder: Path, output: Path) -> None:
    """Runs the blocks of a page in `folder`, where the files that it shows are written; what they say is in `output`.

    `rlcap` runs in a process that is forked with the libraries imported, as the other tests run it; the rest in bash.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for block in blocks(page):
        if block.is_file:
            change = FILES.get(page, {}).get(block.name, Run())
            (folder / block.name).write_text(changed(block.text, change))
            continue
        how = BLOCKS[page][block.name]
        if isinstance(how, Run):
            for line in changed(block.text, how).replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["rlcap"]:
                    done = rlcap(words[1:], output, working_directory=folder)
                    assert done.code == 0, f"{page}: {block.name}: {line}\n{done.out}\n{done.err}"
                elif words:
                    subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True, cwd=folder, env=environment)


@pytest.mark.parametrize("page", BLOCKS)
def test_the_table_has_every_block_and_changes_only_what_is_there(page: str) -> None:
    shell = {block.name: block.text for block in blocks(page) if not block.is_file}
    assert list(shell) == list(BLOCKS[page])
    for name, how in BLOCKS[page].items():
        assert isinstance(how, NotRun) or how.what in shell[name]
    files = {block.name: block.text for block in blocks(page) if block.is_file}
    assert all(how.what in files[name] for name, how in FILES.get(page, {}).items())


@pytest.mark.slow
def test_the_readme_runs(folder: Path, tmp_path: Path) -> None:
    lay_out_readme(folder)
    run("README.md", folder, tmp_path)
    assert (folder / "runs" / "scst" / "best").is_dir()
    assert len(logged(folder / "runs" / "red", "rewards/mentions_red/mean")) == 2


def test_rewards_go_both_ways_between_trl_and_here(folder: Path, tmp_path: Path) -> None:
    lay_out_from_trl(folder)
    run("docs/from-trl.md", folder, tmp_path)
    assert len(logged(folder / "runs" / "trl", "rewards/judged/mean")) == 2
    assert (folder / "runs" / "grpo" / "checkpoint-2").is_dir()


@pytest.mark.slow
def test_the_tutorial_runs(folder: Path, tmp_path: Path) -> None:
    lay_out_tutorial(folder)
    run("docs/tutorial.md", folder, tmp_path)
    assert len(logged(folder / "runs" / "colours", "rewards/names_a_colour/mean")) == 2
    assert logged(folder / "runs" / "ranking", "ranking/pair_accuracy")
    assert json.loads((folder / "scores.json").read_text())["captions"] == 6
    assert {"sheet.png", "report.html"} <= {path.name for path in folder.iterdir()}


def logged(run_folder: Path, name: str) -> list[float]:
    """The values that a run has logged under a name."""
    lines = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]
