"""Flickr8k from photographs to a table: cross-entropy, then SCST in several forms, three seeds each.

    python benchmarks/flickr8k.py --data dataset_flickr8k.json --vision resnet50-imagenet --output runs/flickr8k

Runs `rlcap features`, `xe`, `scst`, `caption` and `evaluate`, each in a process of its own. What is finished is not
done again, so a stopped campaign goes on with the same command. Prints the table of docs/results.md (test split,
beam 3; mean and standard deviation over seeds), and draws the validation curves.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

VARIANTS = {
    "leave_one_out": [],
    "no_eos": ["--reward_options", '{"cider-d": {"eos": false}}'],
    "greedy": ["--baseline", "greedy"],
    # As many steps as take the time of the 400 of the recipe.
    "two_updates": ["--num_iterations", "2", "--max_steps", "500"],
    "plackett_luce": ["--objective", "plackett_luce", "--max_steps", "340"],
    "dico": ["--objective", "dico", "--beta", "0.2", "--dico_temperature", "20", "--max_steps", "340"],
}
TITLES = {
    "xe": "XE",
    "leave_one_out": "SCST, leave-one-out",
    "no_eos": "SCST, EOS not scored",
    "greedy": "SCST, greedy baseline",
    "two_updates": "two updates a sample, clipped ratio",
    "plackett_luce": "Plackett-Luce",
    "dico": "DiCO",
}
METRICS = {
    "cider": "CIDEr",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rep_1_count": "Rep-1",
    "rep_4_count": "Rep-4",
    "bad_ending_rate": "bad endings %",
    "length": "length",
    "vocabulary": "vocabulary",
}
CURVES = {"eval/cider": "validation CIDEr, beam 3", "reward": "reward of samples", "eval/vocabulary": "vocabulary"}


class Campaign:
    """The folder of the campaign, and what has to be run in it.

    variants: name -> options of `rlcap scst` beside those of the recipe. jobs: processes at a time.
    """

    def __init__(self, data: str, vision: str, output: str, variants: Mapping[str, Sequence[str]], jobs: int) -> None:
        self.data, self.vision, self.output = data, vision, Path(output)
        self.variants = variants
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        here = str(Path(__file__).resolve().parent)  # rewards that stand beside this file
        paths = os.pathsep.join(path for path in (here, os.environ.get("PYTHONPATH")) if path)
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": paths}

    def folder(self, name: str, seed: int) -> Path:
        """Where a run is."""
        return self.output / f"{name}-{seed}"

    def features(self) -> None:
        """The grid features of all pictures, once."""
        self.rlcap("features", "--vision", self.vision, "--data", self.data, "--output", self.features_folder)

    def train(self, name: str, seed: int) -> None:
        """Trains a run to its end, captions the test split and scores the captions."""
        self.train_captioner(name, seed)
        folder = self.folder(name, seed)
        captions, scores = folder / "test.json", folder / "scores.json"
        split = ["--data", self.data, "--split", "test", "--features", self.features_folder]
        if not captions.exists():
            self.rlcap("caption", "--captioner", str(folder / "best"), *split, "--output", str(captions), "--quiet")
        if not scores.exists():
            pair = ["--predictions", str(captions), "--references", self.data, "--split", "test"]
            self.rlcap("evaluate", *pair, "--output", str(scores))

    def train_captioner(self, name: str, seed: int) -> None:
        """Trains a run to its end."""
        folder = self.folder(name, seed)
        common = [
            "--data",
            self.data,
            "--features",
            self.features_folder,
            "--output_dir",
            str(folder),
            "--seed",
            str(seed),
        ]
        if not (folder / "final").exists():
            if name == "xe":
                self.rlcap("xe", "--config", "xe/flickr8k", "--vision", self.vision, *common)
            else:
                start = ["--captioner", str(self.folder("xe", seed) / "best")]
                recipe = ["--config", "scst/flickr8k_cider"]
                self.rlcap("scst", *recipe, *start, *common, *self.variants[name])

    def scores(self, name: str, seeds: list[int]) -> dict[str, list[float]]:
        """Metric -> its values over the seeds that are done."""
        files = [self.folder(name, seed) / "scores.json" for seed in seeds]
        measured = [json.loads(file.read_text()) for file in files if file.exists()]
        return {metric: [one[metric] for one in measured] for metric in METRICS} if measured else {}

    def curve(self, name: str, seed: int, key: str) -> list[tuple[int, float]]:
        """(step, value) of a metric of a run."""
        file = self.folder(name, seed) / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [(line["step"], line[key]) for line in lines if key in line]

    @property
    def features_folder(self) -> str:
        """The grid features of the frozen vision model."""
        return str(self.output / "features")

    def rlcap(self, *command: str) -> None:
        """Runs a command, whose output goes into `log.txt`. Raises RuntimeError where it fails."""
        print(" ".join(["rlcap", *command]), flush=True)  # in one piece: others print too
        self.output.mkdir(parents=True, exist_ok=True)
        with (self.output / "log.txt").open("a") as log:
            done = subprocess.run(
                [sys.executable, "-m", "rlcap", *command], stdout=log, stderr=subprocess.STDOUT, env=self.environment
            )
        if done.returncode:
            raise RuntimeError(f"rlcap {command[0]} failed; the end of {self.output / 'log.txt'} says why")


def run(campaign: Campaign, seeds: list[int], jobs: int) -> None:
    """Everything that is not done yet, `jobs` processes at a time; a variant waits for cross-entropy of its seed."""
    campaign.features()
    with ThreadPoolExecutor(jobs) as pool:
        first: dict[int, Future[None]] = {seed: pool.submit(campaign.train, "xe", seed) for seed in seeds}

        def after(name: str, seed: int) -> None:
            first[seed].result()
            campaign.train(name, seed)

        for future in [pool.submit(after, name, seed) for seed in seeds for name in campaign.variants]:
            future.result()


def table(campaign: Campaign, seeds: list[int]) -> str:
    """The results as a Markdown table."""
    lines = ["| test split | " + " | ".join(METRICS.values()) + " | seeds |", "|---" * (len(METRICS) + 2) + "|"]
    for name in ["xe", *campaign.variants]:
        scores = campaign.scores(name, seeds)
        if scores:
            cells = [_cell(values) for values in scores.values()]
            count = len(next(iter(scores.values())))
            lines.append(f"| {TITLES[name]} | " + " | ".join(cells) + f" | {count} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def draw(campaign: Campaign, seeds: list[int], file: Path) -> None:
    """Validation and sampling curves of SCST, a line a seed."""
    figure, axes = plt.subplots(1, len(CURVES), figsize=(4 * len(CURVES), 3.2), layout="constrained")
    for axis, (key, title) in zip(axes, CURVES.items(), strict=True):
        for colour, name in enumerate(campaign.variants):
            for number, seed in enumerate(seeds):
                points = campaign.curve(name, seed, key)
                if points:
                    axis.plot(*zip(*points, strict=True), color=f"C{colour}", lw=1, label=TITLES[name] * (number == 0))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Runs the campaign and shows it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dataset_flickr8k.json (Karpathy's splits)")
    parser.add_argument("--vision", required=True, help="directory or hub id of the frozen vision model")
    parser.add_argument("--output", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only-show", action="store_true", help="the table and the curves of what is there")
    parser.add_argument("--scst", nargs=argparse.REMAINDER, default=[], help="further options of `rlcap scst`")
    arguments = parser.parse_args()
    variants = {name: [*VARIANTS[name], *arguments.scst] for name in arguments.variants}
    campaign = Campaign(arguments.data, arguments.vision, arguments.output, variants, arguments.jobs)
    if not arguments.only_show:
        run(campaign, arguments.seeds, arguments.jobs)
    print(table(campaign, arguments.seeds))
    draw(campaign, arguments.seeds, campaign.output / "curves.png")


if __name__ == "__main__":
    main()
