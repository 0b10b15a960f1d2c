"""SCST with gradient accumulation: rewards in a thread beside the sampling of the next micro-batch, and in line.

    python benchmarks/overlap.py [--steps 6] [--latency 0.5] [--pixels 112]

The model is the ViT and GPT-2 of `benchmarks/scst_step.py` (random weights, all of it trains); a step is four times 4
pictures x 5 samples x 20 tokens, through Trainer. Rewards:

    cider-d   a few milliseconds of Python
    a server  a reward that waits for an answer, as one does that asks a judge over the network (--latency seconds)
    pac-s     ViT-B/32 of open_clip, random weights, which needs the same processors as the sampling

The two ways take turns, run by run; seconds are the median of the steps after the first. Both must log the same rewards
and the same losses, bit for bit: exit code 1 where they do not.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import open_clip
import scst_step
import torch
from PIL import Image
from scaling import Clock

import rewards
from rewards import Reward
from rewards.clip_s import PacS
from rewards.open_clip_encoder import OpenClipEncoder
from rewards.reward import as_reward
from rlcap.console import silenced
from rlcap.training.scst import SCSTTrainer
from rlcap.training.scst_arguments import SCSTArguments

PICTURES, MICRO_BATCHES, SAMPLES, LENGTH = 4, 4, 5, 20
ARCHITECTURE = "ViT-B-32-quickgelu"
TIMINGS = ("time/", "epoch", "step_seconds")


def server(latency: float) -> Any:
    """A reward that answers after a while."""

    def answered(completions: Sequence[str], **columns: Any) -> list[float]:
        time.sleep(latency)
        return [len(set(completion.split())) / 10 for completion in completions]

    return answered


def train(reward: Reward | Any, overlap: bool, steps: int, pixels: int, folder: Path) -> tuple[list[float], list[Any]]:
    """Seconds of the steps after the first, and what was logged of them, timings aside."""
    torch.manual_seed(0)
    references = scst_step.corpus(PICTURES * MICRO_BATCHES * steps)
    captioner = scst_step.vit_gpt2([caption for own in references.values() for caption in own], pixels)
    rng = np.random.default_rng(0)
    rows = []
    for name, own in references.items():
        Image.fromarray(rng.integers(0, 255, (pixels, pixels, 3), dtype=np.uint8)).save(folder / f"{name}.png")
        rows.append({"image_id": name, "image": str(folder / f"{name}.png"), "references": own, "split": "train"})
    args = SCSTArguments(
        output_dir=str(folder / f"run-{overlap}"),
        per_device_train_batch_size=PICTURES,
        gradient_accumulation_steps=MICRO_BATCHES,
        num_samples=SAMPLES,
        max_new_tokens=LENGTH,
        max_steps=steps,
        overlap_rewards=overlap,
        learning_rate=1e-6,
        logging_steps=1,
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
        reward_functions=[reward],
        callbacks=[clock],
    )
    with silenced():
        trainer.train()
    lines = [json.loads(line) for line in (Path(str(args.output_dir)) / "metrics.jsonl").read_text().splitlines()]
    return clock.seconds[1:], [{k: v for k, v in line.items() if not k.startswith(TIMINGS)} for line in lines]


def main() -> None:
    """Prints a line a reward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--pixels", type=int, default=112)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip says that it has no weights
    corpus = scst_step.corpus()
    config = open_clip.get_model_config(ARCHITECTURE)
    encoder = OpenClipEncoder(open_clip.create_model(ARCHITECTURE), ARCHITECTURE, {"backbone": "random"}, config)
    tried: dict[str, Callable[[], Any]] = {
        "cider-d": lambda: rewards.load("cider-d", corpus=corpus, eos=False),
        f"a server, {arguments.latency} s": lambda: as_reward(server(arguments.latency)),
        "pac-s": lambda: PacS(backbone=encoder, device="cpu"),
    }
    print(
        f"{os.cpu_count()} cores, {arguments.pixels} px, torch {torch.__version__}; a step has {MICRO_BATCHES} rewards"
    )
    print("| reward | in line, s a step | beside, s a step | ratio (from, to) |\n|---|---|---|---|")
    for name, reward in tried.items():
        times: dict[bool, list[float]] = {False: [], True: []}
        logged: dict[bool, list[Any]] = {}
        for _ in range(arguments.repetitions):
            for overlap in times:
                with tempfile.TemporaryDirectory() as folder:
                    seconds, logged[overlap] = train(reward(), overlap, arguments.steps, arguments.pixels, Path(folder))
                times[overlap].append(statistics.median(seconds))
        if logged[False] != logged[True]:
            sys.exit(f"{name}: the two ways logged different things")
        ratios = [a / b for a, b in zip(times[False], times[True], strict=True)]
        cells = [statistics.median(own) for own in times.values()]
        print(
            f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
