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

from pac import JUDGE, Encoders

import rewards
from rlcap.evaluation import score_captions
from rlcap.evaluation.files import read_references

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
        if not Path(self.grammar).exists():
            self.rlcap("reward", "grammar", "--config", "rewards/grammar", *data, "--max_steps", "600")
        if not Path(self.scorer).exists():
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
        return str(self.output / "grammar" / "model")

    @property
    def scorer(self) -> str:
        """The comparative scorer."""
        return str(self.output / "comparative" / "final")

    def measure(self, name: str, seed: int, judge: rewards.Reward, photographs: Sequence[str] | None) -> dict[str, Any]:
        """The metrics of a run's test captions, on all photographs or on those given."""
        captions = json.loads((self.folder(name, seed) / "test.json").read_text())
        references = read_references(self.data, "test")
        chosen = [key for key in references if photographs is None or key in photographs]
        own = {key: captions[key] for key in chosen}
        ranks = self.ranks(judge, own)
        found = score_captions(own, {key: references[key] for key in chosen}, picture_ranks=ranks, java=False).metrics
        columns = {"image_id": chosen, "images": [None] * len(chosen), "references": [references[k] for k in chosen]}
        scores = judge(list(own.values()), **columns)
        return {**found, "ref_pac_s": statistics.mean(score for score in scores if score is not None)}
