"""PAC-S++ on Flickr8k: a dual encoder, tuned with generated captions in several ways, against the experts' ratings.

    python benchmarks/pac.py --data flickr8k --vision resnet50-imagenet --text all-MiniLM-L6-v2 --output runs/flickr8k

There are no CLIP weights here, so a dual encoder is first made of a vision model, which stays frozen, and a text
encoder, which trains, on the training photographs (`base`). It is then tuned on the same photographs with captions that
the cross-entropy captioner of `benchmarks/flickr8k.py` (same --output, same seed) generates for them. Runs `rlcap
positives captions`, `rlcap reward pac` and `rlcap agreement`, each in a process of its own; what is finished is not
done again. Prints the tables of docs/results.md: agreement with Flickr8k-Expert, and retrieval among test photographs.
Those of `--encoders halves` are made on one half of the training photographs and tuned on the other.
"""

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from flickr8k import Campaign

from rlcap.tracking.run_directory import write_json

DATA, JUDGE = "dataset_flickr8k.json", 100
# Options of `rlcap reward pac`. `base` is new; the others start from the base of their seed, for so short a time that
# the recipe's learning rate, which is for 20 epochs, would hardly move them. alpha / rank is 1 / 4.
BASE = ["--tune", "all", "--num_train_epochs", "5", "--learning_rate", "1e-4"]
LORA_4, NO_POSITIVES = ["--tune", "lora", "--lora_rank", "4"], ["--lambda_t", "0"]
WHOLE = {
    "base": BASE,
    "LoRA 4, generated captions": LORA_4,
    "LoRA 4, no positives": [*LORA_4, *NO_POSITIVES],
    "LoRA 2, generated captions": ["--tune", "lora", "--lora_rank", "2", "--lora_alpha", "0.5"],
    "LoRA 8, generated captions": ["--tune", "lora", "--lora_rank", "8", "--lora_alpha", "2"],
    "LoRA 16, generated captions": ["--tune", "lora", "--lora_rank", "16", "--lora_alpha", "4"],
    "projections, generated captions": ["--tune", "projections"],
}
HALVES = {
    "half, base": BASE,
    "half, LoRA 4, generated captions": LORA_4,
    "half, LoRA 4, no positives": [*LORA_4, *NO_POSITIVES],
    "half, projections, generated captions": ["--tune", "projections"],
    "half, projections, no positives": ["--tune", "projections", *NO_POSITIVES],
}
ENCODERS = {"whole": WHOLE, "halves": HALVES}
TRAINING = [
    *("--per_device_train_batch_size", "128", "--lr_scheduler_type", "cosine", "--num_train_epochs", "2"),
    *("--learning_rate", "1e-3"),
    *("--max_val_images", "500", "--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"),
]
KINDS = {"clip-s": "CLIP-S", "ref-clip-s": "RefCLIP-S"}
STATISTICS = {"kendall_b": "τ-b", "kendall_c": "τ-c", "spearman": "Spearman ρ"}
RETRIEVAL = {
    f"{way}_r{k}": f"{arrow} R@{k}"
    for way, arrow in (("image_to_text", "i→t"), ("text_to_image", "t→i"))
    for k in (1, 5)
}


class Encoders(Campaign):
    """The dual encoders of a campaign on Flickr8k."""

    def __init__(self, folder: str, vision: str, text: str, output: str, jobs: int) -> None:
        super().__init__(str(Path(folder) / DATA), vision, output, {}, jobs)
        self.lock = Lock()
        self.expert, self.text, self.photographs = folder, text, str(Path(folder) / "images")

    def encoder(self, name: str, seed: int) -> Path:
        """Where the run of an encoder is."""
        return self.output / "encoders" / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"

    def model(self, name: str, seed: int) -> str:
        """The trained encoder."""
        return str(self.encoder(name, seed) / "final")

    def train_encoder(self, name: str, seed: int) -> None:
        """Trains an encoder, and first its base and the captions that it needs."""
        base = "half, base" if name in HALVES else "base"
        if name != base:
            self.train_encoder(base, seed)
        if (self.encoder(name, seed) / "report.json").exists():  # final/ is the best so far
            return
        options = [*TRAINING, *(WHOLE | HALVES)[name], "--seed", str(seed), "--features", self.features_folder]
        if name in HALVES:
            options += ["--data", self.halves(), "--images", self.photographs]
            options += ["--train_split", "first half" if name == base else "second half"]
        else:
            options += ["--data", self.data]
        if name == base:
            options += ["--vision", self.vision, "--text", self.text]
        else:
            options += ["--encoder", self.model(base, seed)]
            if "--lambda_t" not in options:
                options += ["--generated_captions", str(self.positives(seed))]
        shared = ["--config", "rewards/pac", "--towers", "text", *options]
        self.rlcap("reward", "pac", *shared, "--output_dir", str(self.encoder(name, seed)))

    def halves(self) -> str:
        """The data with the training photographs in two halves, drawn at random."""
        file = self.output / "halves.json"
        with self.lock:  # of the threads of several seeds
            if file.exists():
                return str(file)
            data = json.loads(Path(self.data).read_text())
            training = [row for row in data["images"] if row["split"] == "train"]
            random.Random(0).shuffle(training)
            for number, row in enumerate(training):
                row["split"] = "first half" if number < len(training) // 2 else "second half"
            write_json(file, data)
        return str(file)

    def positives(self, seed: int) -> Path:
        """Captions of the training photographs by the captioner of cross-entropy."""
        file = self.output / f"positives-{seed}.jsonl"
        if not file.exists():
            captioner = ["--captioner", str(self.folder("xe", seed) / "best"), "--features", self.features_folder]
            source = ["--data", self.data, "--split", "train", "--output", str(file)]
            self.rlcap("positives", "captions", *captioner, *source)
        return file

    def agree(self, name: str, seed: int) -> Path:
        """The agreement of an encoder with the experts, without and with references."""
        file = self.encoder(name, seed) / "expert.json"
        if not file.exists():
            backbone = {"backbone": self.model(name, seed), "features": self.features_folder}
            options = json.dumps({kind: {"reward": kind, **backbone} for kind in KINDS})
            given = ["--benchmark", "flickr8k-expert", "--data", self.expert, "--metric-options", options]
            metrics = [f"{kind}=stored_pictures:dual_encoder" for kind in KINDS]
            self.rlcap("agreement", *given, "--metric", *metrics, "--resamples", "0", "--output", str(file))
        return file


def tables(campaign: Encoders, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Agreement and retrieval, mean and standard deviation over seeds, as Markdown."""
    heads = [f"{kind} {title}" for kind in KINDS.values() for title in STATISTICS.values()]
    first = ["| Flickr8k-Expert | " + " | ".join(heads) + " | seeds |", "|---" * (len(heads) + 2) + "|"]
    second = ["| test photographs | " + " | ".join(RETRIEVAL.values()) + " |", "|---" * (len(RETRIEVAL) + 1) + "|"]
    for name in names:
        files = [campaign.encoder(name, seed) / "expert.json" for seed in seeds]
        known = [json.loads(file.read_text())["metrics"] for file in files if file.exists()]
        cells = [cell([own[kind][key]["value"] for own in known]) for kind in KINDS for key in STATISTICS]
        first.append(f"| {name} | " + " | ".join(cells) + f" | {len(known)} |")
        files = [campaign.encoder(name, seed) / "report.json" for seed in seeds]
        found = [json.loads(file.read_text())["test"] for file in files if file.exists()]
        second.append(f"| {name} | " + " | ".join(cell([own[key] for own in found]) for key in RETRIEVAL) + " |")
    return "\n".join([*first, "", *second])


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation; nothing for no values."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    """Runs the campaign and shows it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=f"folder with {DATA}, ExpertAnnotations.txt and images")
    parser.add_argument("--vision", required=True, help="directory or hub id of the frozen vision model")
    parser.add_argument("--text", required=True, help="directory or hub id of the text encoder")
    parser.add_argument("--output", required=True, help="that of benchmarks/flickr8k.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--encoders", default="whole", choices=ENCODERS)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only-show", action="store_true", help="the tables of what is there")
    arguments = parser.parse_args()
    names = list(ENCODERS[arguments.encoders])
    campaign = Encoders(arguments.data, arguments.vision, arguments.text, arguments.output, arguments.jobs)
    if not arguments.only_show:
        campaign.features()
        with ThreadPoolExecutor(arguments.jobs) as pool:

            def all_of(seed: int) -> None:
                for name in names:
                    campaign.train_encoder(name, seed)
                    campaign.agree(name, seed)

            futures = [pool.submit(all_of, seed) for seed in arguments.seeds]
            if arguments.encoders == "whole":  # the judge of benchmarks/learned_rewards.py
                futures.append(pool.submit(campaign.train_encoder, "base", JUDGE))
            for future in futures:
                future.result()
    print(tables(campaign, names, arguments.seeds))


if __name__ == "__main__":
    main()
