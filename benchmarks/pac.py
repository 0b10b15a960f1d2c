"""PAC-S++ on Flickr8k: a dual encoder, tuned with generated captions in several ways, against the experts' ratings.

    python benchmarks/pac.py --data flickr8k --vision resnet50-imagenet --text all-MiniLM-L6-v2 --output runs/flickr8k

There are no CLIP weights here, so a dual encoder is first made of a vision model, which stays frozen, and a text
encoder, which trains, on the training photographs (`base`). It is then tuned on the same photographs with captions that
the cross-entropy captioner of `benchmarks/flickr8k.py` (same --output, same seed) generates for them. Runs `rlcap
positives captions`, `rlcap reward pac` and `rlcap agreement`, each in a process of its own; what is finished is not
done again. Prints the tables of docs/results.md: agreement with Flickr8k-Expert, and retrieval among test photographs.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flickr8k import Campaign

DATA, JUDGE = "dataset_flickr8k.json", 100
# Options of `rlcap reward pac`. `base` is new; the others start from the base of their seed, for so short a time that
# the recipe's learning rate, which is for 20 epochs, would hardly move them. alpha / rank is 1 / 4.
ENCODERS = {
    "base": ["--tune", "all", "--num_train_epochs", "5", "--learning_rate", "1e-4"],
    "LoRA 4, generated captions": ["--tune", "lora", "--lora_rank", "4"],
    "LoRA 4, no positives": ["--tune", "lora", "--lora_rank", "4", "--lambda_t", "0"],
    "LoRA 2, generated captions": ["--tune", "lora", "--lora_rank", "2", "--lora_alpha", "0.5"],
    "LoRA 8, generated captions": ["--tune", "lora", "--lora_rank", "8", "--lora_alpha", "2"],
    "LoRA 16, generated captions": ["--tune", "lora", "--lora_rank", "16", "--lora_alpha", "4"],
    "projections, generated captions": ["--tune", "projections"],
}
TRAINING = [
    *("--per_device_train_batch_size", "128", "--lr_scheduler_type", "cosine", "--num_train_epochs", "2"),
    *("--learning_rate", "1e-3"),
    *("--max_val_images", "500", "--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"),
]
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
        self.expert, self.text = folder, text

    def encoder(self, name: str, seed: int) -> Path:
        """Where the run of an encoder is."""
        return self.output / "encoders" / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"

    def model(self, name: str, seed: int) -> str:
        """The trained encoder."""
        return str(self.encoder(name, seed) / "final")

    def train_encoder(self, name: str, seed: int) -> None:
        """Trains an encoder, and first its base and the captions that it needs."""
        if name != "base":
            self.train_encoder("base", seed)
        if (self.encoder(name, seed) / "report.json").exists():  # final/ is the best so far
            return
        options = [*TRAINING, *ENCODERS[name], "--seed", str(seed), "--features", self.features_folder]
        if name == "base":
            options += ["--vision", self.vision, "--text", self.text]
        else:
            options += ["--encoder", self.model("base", seed)]
            if "--lambda_t" not in options:
                options += ["--generated_captions", str(self.positives(seed))]
        shared = ["--config", "rewards/pac", "--towers", "text", "--data", self.data]
        self.rlcap("reward", "pac", *shared, *options, "--output_dir", str(self.encoder(name, seed)))

    def positives(self, seed: int) -> Path:
        """Captions of the training photographs by the captioner of cross-entropy."""
        file = self.output / f"positives-{seed}.jsonl"
        if not file.exists():
            captioner = ["--captioner", str(self.folder("xe", seed) / "best"), "--features", self.features_folder]
            source = ["--data", self.data, "--split", "train", "--output", str(file)]
            self.rlcap("positives", "captions", *captioner, *source)
        return file

    def agree(self, names: Sequence[str], seed: int) -> Path:
        """The agreement of all encoders of a seed with the experts, without and with references."""
        file = self.output / f"expert-{seed}.json"
        wanted = {
            f"{kind} {name}": {"reward": kind, "backbone": self.model(name, seed), "features": self.features_folder}
            for name in names
            for kind in ("clip-s", "ref-clip-s")
        }
        if file.exists() and wanted.keys() <= json.loads(file.read_text())["metrics"].keys():
            return file
        metrics = [f"{label}=stored_pictures:dual_encoder" for label in wanted]
        given = ["--benchmark", "flickr8k-expert", "--data", self.expert, "--metric-options", json.dumps(wanted)]
        self.rlcap("agreement", *given, "--metric", *metrics, "--resamples", "0", "--output", str(file))
        return file


def tables(campaign: Encoders, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Agreement and retrieval, mean and standard deviation over seeds, as Markdown."""
    heads = [f"{kind} {title}" for kind in ("CLIP-S", "RefCLIP-S") for title in STATISTICS.values()]
    first = ["| Flickr8k-Expert | " + " | ".join(heads) + " | seeds |", "|---" * (len(heads) + 2) + "|"]
    second = ["| test photographs | " + " | ".join(RETRIEVAL.values()) + " |", "|---" * (len(RETRIEVAL) + 1) + "|"]
    agreement = [json.loads((campaign.output / f"expert-{seed}.json").read_text())["metrics"] for seed in seeds]
    for name in names:
        known = [own for own in agreement if f"clip-s {name}" in own]
        cells = [
            cell([own[f"{kind} {name}"][key]["value"] for own in known])
            for kind in ("clip-s", "ref-clip-s")
            for key in STATISTICS
        ]
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
    parser.add_argument("--encoders", nargs="*", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only-show", action="store_true", help="the tables of what is there")
    arguments = parser.parse_args()
    campaign = Encoders(arguments.data, arguments.vision, arguments.text, arguments.output, arguments.jobs)
    if not arguments.only_show:
        campaign.features()
        with ThreadPoolExecutor(arguments.jobs) as pool:

            def all_of(seed: int) -> None:
                for name in arguments.encoders:
                    campaign.train_encoder(name, seed)
                campaign.agree(arguments.encoders, seed)

            judge = pool.submit(campaign.train_encoder, "base", JUDGE)  # of benchmarks/learned_rewards.py
            for future in [judge, *(pool.submit(all_of, seed) for seed in arguments.seeds)]:
                future.result()
    print(tables(campaign, arguments.encoders, arguments.seeds))


if __name__ == "__main__":
    main()
