"""SCST on Flickr8k with learned rewards, judged by an encoder that rewarded none of them.

    python benchmarks/learned_rewards.py --data flickr8k --vision resnet50-imagenet --text all-MiniLM-L6-v2 \
        --output runs/flickr8k

Starts from the captioners of `benchmarks/flickr8k.py` and the dual encoders of `benchmarks/pac.py` (same --output), and
trains the grammar head and the comparative scorer that it needs, once. The rewarded encoders are those of seed 0; the
judge is a dual encoder of another seed, made of the same two models and the same photographs, so it shares their blind
spots. What is finished is not done again. Prints the tables of docs/results.md: all 1,000 test photographs, and those
200 of them that the comparative scorer has not seen.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pac import JUDGE, Encoders, cell
from stored_pictures import dual_encoder

from rewards.clip_s import RefPacSPlusPlus
from rlcap.data.judgments import read_judgments, split_by_picture
from rlcap.evaluation import score_captions
from rlcap.evaluation.files import read_references
from rlcap.evaluation.retrieval import caption_hits

TITLES = {
    "xe": "XE",
    "leave_one_out": "CIDEr-D",
    "clip_s": "CLIP-S",
    "pac": "PAC-S++",
    "pac_grammar": "PAC-S++ and grammar",
    "comparative": "comparative",
}
METRICS = {
    "cider": "CIDEr",
    "ref_pac_s": "RefPAC-S, judge",
    "retrieval_1": "R@1, judge",
    **{f"rep_{n}_count": f"Rep-{n}" for n in range(1, 5)},
    "bad_ending_rate": "bad endings %",
    "harper_error_rate": "grammar errors %",
    "length": "length",
    "vocabulary": "vocabulary",
}
REWARDED = 0  # the seed of the encoders that reward
REWARDED_BY = {"clip_s": ("clip-s", "base"), "pac": ("pac-s++", "LoRA 4, generated captions")}
SPLIT, SPLIT_SEED = [650, 150, 200], 0


class LearnedRewards(Encoders):
    """SCST runs with learned rewards."""

    def prepare(self) -> None:
        """Encoders, grammar head and comparative scorer; then what each variant of SCST is given."""
        for encoder in ("base", "LoRA 4, generated captions"):
            self.train_encoder(encoder, REWARDED)
        self.train_encoder("base", JUDGE)
        data = ["--data", self.data, "--encoder", self.text, "--output_dir", str(self.output / "grammar")]
        if not (self.output / "grammar" / "accuracy.json").exists():
            self.rlcap("reward", "grammar", "--config", "rewards/grammar", *data, "--max_steps", "600")
        if not (self.output / "comparative" / "report.json").exists():
            encoders = ["--picture_encoder", self.vision, "--sentence_encoder", self.text]
            split = ["--split", *map(str, SPLIT), "--split_seed", str(SPLIT_SEED)]
            given = ["--data", self.expert, *encoders, *split, "--picture_features", self.features_folder]
            recipe = ["--config", "rewards/comparative", "--hidden", "256", "128", "--dropout", "0.3", "0.2"]
            output = ["--output_dir", str(self.output / "comparative")]
            self.rlcap("reward", "comparative", *recipe, "--batch_size", "256", *given, *output)
        dual = {name: self._dual(*REWARDED_BY[name]) for name in REWARDED_BY}
        grammar = {"grammar": {"path": self.grammar}}
        known = {"stored_pictures:comparative": {"path": self.scorer, "features": self.features_folder}}
        self.variants = {
            "leave_one_out": [],
            "clip_s": _rewards(dual["clip_s"]),
            "pac": _rewards(dual["pac"]),
            # The weights of Cho et al. 2022: the picture counts twice.
            "pac_grammar": [*_rewards(dual["pac"] | grammar), "--reward_weights", "2", "1"],
            "comparative": _rewards(known),
        }

    @property
    def grammar(self) -> str:
        """The grammar head."""
        return str(self.output / "grammar" / "final")

    @property
    def scorer(self) -> str:
        """The comparative scorer."""
        return str(self.output / "comparative" / "final")

    def train(self, name: str, seed: int) -> None:
        """Trains a run to its end and captions the test photographs as it is then: `best/` is by CIDEr, not by reward.

        Cross-entropy is taken as `benchmarks/flickr8k.py` left it.
        """
        self.train_captioner(name, seed)
        captions = self.captions(name, seed)
        if not captions.exists():
            captioner = self.folder(name, seed) / ("best" if name == "xe" else "final")
            given = ["--data", self.data, "--split", "test", "--features", self.features_folder, "--quiet"]
            self.rlcap("caption", "--captioner", str(captioner), *given, "--output", str(captions))

    def captions(self, name: str, seed: int) -> Path:
        """The test captions of a run."""
        return self.folder(name, seed) / "test_at_the_end.json"

    def measure(self, name: str, seed: int, judge: RefPacSPlusPlus, photographs: set[str] | None) -> dict[str, Any]:
        """The metrics of a run's test captions, on all photographs or on those given."""
        captions = json.loads(self.captions(name, seed).read_text())
        references = read_references(self.data, "test")
        chosen = [key for key in references if photographs is None or key in photographs]
        own = {key: captions[key] for key in chosen}
        hits = caption_hits(judge.features, own, {key: {} for key in own}, judge.pictures.prefix.strip())
        found = score_captions(own, {key: references[key] for key in chosen}, retrieved=hits, java=False).metrics
        columns: dict[str, Any] = {
            "image_id": chosen,
            "images": [None] * len(chosen),
            "references": [references[k] for k in chosen],
        }
        return {**found, "ref_pac_s": 100 * statistics.mean(judge(list(own.values()), **columns))}

    def judge(self) -> RefPacSPlusPlus:
        """The encoder of another seed, as RefPAC-S."""
        given: dict[str, Any] = {"backbone": self.model("base", JUDGE), "features": self.features_folder, "w": 2.0}
        judge = dual_encoder(reward="ref-pac-s++", **given)
        assert isinstance(judge, RefPacSPlusPlus)
        return judge

    def unseen(self) -> set[str]:
        """The photographs on which the comparative scorer was neither trained nor validated."""
        judgments = split_by_picture(read_judgments(self.expert), SPLIT, SPLIT_SEED)
        return {caption.image_id for caption in judgments.captions if caption.split == "test"}

    def _dual(self, reward: str, encoder: str) -> dict[str, dict[str, Any]]:
        given = {"reward": reward, "backbone": self.model(encoder, REWARDED), "features": self.features_folder}
        return {"stored_pictures:dual_encoder": given}


def _rewards(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return ["--rewards", *options, "--reward_options", json.dumps(options)]


def table(
    campaign: LearnedRewards,
    judge: RefPacSPlusPlus,
    names: Sequence[str],
    seeds: Sequence[int],
    photographs: set[str] | None,
) -> str:
    """The metrics of all runs that are done, mean and standard deviation over seeds, as Markdown."""
    lines = ["| reward | " + " | ".join(METRICS.values()) + " | seeds |", "|---" * (len(METRICS) + 2) + "|"]
    for name in names:
        done = [seed for seed in seeds if campaign.captions(name, seed).exists()]
        measured = [campaign.measure(name, seed, judge, photographs) for seed in done]
        if measured:
            cells = [cell([own[key] for own in measured]) for key in METRICS]
            lines.append(f"| {TITLES[name]} | " + " | ".join(cells) + f" | {len(done)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the campaign and shows it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with Karpathy's file, ExpertAnnotations.txt and images")
    parser.add_argument("--vision", required=True, help="directory or hub id of the frozen vision model")
    parser.add_argument("--text", required=True, help="directory or hub id of the text encoder")
    parser.add_argument("--output", required=True, help="that of benchmarks/flickr8k.py and benchmarks/pac.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rewards", nargs="*", default=list(TITLES), choices=TITLES)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only-show", action="store_true", help="the tables of what is there")
    arguments = parser.parse_args()
    campaign = LearnedRewards(arguments.data, arguments.vision, arguments.text, arguments.output, arguments.jobs)
    if not arguments.only_show:
        campaign.features()
        campaign.prepare()
        with ThreadPoolExecutor(arguments.jobs) as pool:
            runs = [(name, seed) for seed in arguments.seeds for name in arguments.rewards]
            for future in [pool.submit(campaign.train, name, seed) for name, seed in runs]:
                future.result()
    judge = campaign.judge()
    print(table(campaign, judge, arguments.rewards, arguments.seeds, None))
    print("\n200 photographs that the comparative scorer has not seen\n")
    print(table(campaign, judge, arguments.rewards, arguments.seeds, campaign.unseen()))


if __name__ == "__main__":
    main()
