"""Step time and memory of SCST against processes, batch, samples and caption length.

    python benchmarks/scaling.py [--steps 4] [--processes 1 2] [--pixels 224]

The model is the ViT and GPT-2 of `benchmarks/scst_step.py` (random weights, all of it trains), on drawn noise. One
quantity is varied at a time from 16 pictures x 5 samples x 20 tokens in one process; each setting is a run of its own
under torchrun, through Trainer, with a thread a process where there are several. The batch is that of a process.

Seconds are the median of the steps after the first, of the slowest rank. Memory is the peak resident set of a rank over
what it held before its first step, the largest of the ranks. Pictures a second count all ranks.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import scst_step
import torch
from accelerate.utils import gather_object
from PIL import Image
from transformers import TrainerCallback

import rewards
from rlcap.training.scst import SCSTTrainer
from rlcap.training.scst_arguments import SCSTArguments


@dataclass(frozen=True)
class Setting:
    """What a run is measured at."""

    processes: int = 1
    batch: int = 16
    samples: int = 5
    tokens: int = 20


class Clock(TrainerCallback):
    """When steps began and ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Notes the time."""
        self.started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Notes how long the step took."""
        self.seconds.append(time.perf_counter() - self.started)


def take_steps(setting: Setting, steps: int, pixels: int) -> None:
    """A rank: trains, and the first one prints what was measured."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(max((os.cpu_count() or 1) // world, 1))
    torch.manual_seed(0)
    references = scst_step.corpus(setting.batch * world * steps)
    captioner = scst_step.vit_gpt2([caption for own in references.values() for caption in own], pixels)
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 255, (pixels, pixels, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"{folder}/noise.png")
        rows = [
            {"image_id": name, "image": f"{folder}/noise.png", "references": own, "split": "train"}
            for name, own in references.items()
        ]
        args = SCSTArguments(
            output_dir=folder,
            per_device_train_batch_size=setting.batch,
            num_samples=setting.samples,
            max_new_tokens=setting.tokens,
            max_steps=steps,
            baseline="leave_one_out",
            learning_rate=1e-6,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.accelerator.is_available(),
        )
        clock = Clock()
        trainer = SCSTTrainer(
            captioner,
            args,
            datasets.Dataset.from_list(rows),
            reward_functions=[rewards.load("cider-d", corpus=references, eos=False)],
            callbacks=[clock],
        )
        before = scst_step.status("VmRSS")
        trainer.train()
        found = gather_object([{"seconds": clock.seconds[1:], "mib": scst_step.status("VmHWM") - before}])
    if trainer.is_world_process_zero():
        slowest = max(statistics.median(own["seconds"]) for own in found)
        print("measured " + json.dumps({"seconds": slowest, "mib": max(own["mib"] for own in found)}), flush=True)
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def measured(setting: Setting, steps: int, pixels: int) -> dict[str, float]:
    """What a run of its own prints; raises RuntimeError with its output where it fails."""
    run = [__file__, "--rank-of", json.dumps(vars(setting)), "--steps", str(steps), "--pixels", str(pixels)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(setting.processes)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"} if not torch.accelerator.is_available() else None
    done = subprocess.run([sys.executable, *launcher, *run], capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("measured ")]
    if done.returncode or not lines:
        raise RuntimeError(f"{setting}: {done.stderr[-2000:]}")
    return json.loads(lines[-1].removeprefix("measured "))


def main() -> None:
    """Prints a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--samples", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--tokens", type=int, nargs="+", default=[10, 20, 30])
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--rank-of", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank_of:
        take_steps(Setting(**arguments.rank_of), arguments.steps, arguments.pixels)
        return
    base = Setting()
    settings = {
        "processes": [replace(base, processes=n, batch=base.batch // n) for n in arguments.processes],
        "batch": [replace(base, batch=n) for n in arguments.batches],
        "samples": [replace(base, samples=n) for n in arguments.samples],
        "tokens": [replace(base, tokens=n) for n in arguments.tokens],
    }
    print(f"{os.cpu_count()} cores, {arguments.pixels} px, {arguments.steps - 1} steps, torch {torch.__version__}")
    print(
        "| varied | processes | pictures a process | samples | tokens | s a step | pictures a second | MiB a process |"
    )
    print("|---|---|---|---|---|---|---|---|")
    known: dict[Setting, dict[str, float]] = {}
    for varied, own in settings.items():
        for setting in own:
            if setting not in known:
                known[setting] = measured(setting, arguments.steps, arguments.pixels)
            seconds, mib = known[setting]["seconds"], known[setting]["mib"]
            rate = setting.processes * setting.batch / seconds
            cells = [varied, setting.processes, setting.batch, setting.samples, setting.tokens]
            print(f"| {' | '.join(map(str, cells))} | {seconds:.2f} | {rate:.1f} | {mib:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
