"""Ranking-DPO on clips or photographs: orders against pairs, the vision model frozen or tuned, beside blind controls.

    python benchmarks/ranking.py --data msrvtt.jsonl --vision resnet50-imagenet --output runs/ranking

Makes one text of several references of a clip, chains of these texts, and a captioner by cross-entropy on the texts
that begin them; then tunes it by ranking-DPO, in every variant from the same captioner of its seed. `text-only` has
seen even grey frames all its life, in cross-entropy too: what it gets right needs no eyes. `balanced chains` are those
of which it has half of the pairs in order; it is trained first where their name is asked for. Runs `rlcap chains`,
`features`, `xe`, `rank-dpo`, `rank-eval`, `caption` and `evaluate`, each in a process of its own; what is finished is
not done again. Prints the tables of docs/results.md (test split; mean and deviation over seeds; orders times 100).

What may be put in the place of a word is taken from the captions of all splits; captioners see those of training alone.
Cross-entropy keeps the weights of the best CIDEr on validation, ranking-DPO those that have the most pairs in order by
implicit reward. Every objective has the same steps, rates and beta. The rates are those with which Plackett-Luce had
most validation pairs in order (seed 0): of 1e-4 and 3e-4, for the vision model of 1e-4, 3e-5 and 1e-5. Where the vision
model is tuned it is shown pictures, else features stored in fp16. References of CIDEr are the joined texts: it is none
of single captions.
"""

import argparse
import json
import random
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from flickr8k import Campaign
from pac import cell
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from rlcap.data.blind import GREY
from rlcap.evaluation.ranking import BY_KIND

PL, DPO = ["--objective", "plackett_luce"], ["--objective", "bradley_terry", "--pairs", "best_worst"]
FROZEN = ["--freeze", "vision"]
VARIANTS = {
    "xe": [],
    "DPO, best and worst, vision frozen": [*DPO, *FROZEN],
    "DPO, best and worst, vision tuned": DPO,
    "Plackett-Luce, vision frozen": [*PL, *FROZEN],
    "Plackett-Luce, vision tuned": PL,
    "adjacent pairs, vision tuned": ["--objective", "bradley_terry", "--pairs", "adjacent"],
    "all pairs, vision tuned": ["--objective", "bradley_terry", "--pairs", "all"],
    "lambda, vision tuned": ["--objective", "lambda"],
    "Plackett-Luce, LoRA on the decoder, vision tuned": [*PL, "--lora_parts", "decoder"],
    "Plackett-Luce and cross-entropy, vision frozen": [*PL, *FROZEN, "--xe_weight", "1"],
    "Plackett-Luce, vision frozen, balanced chains": [*PL, *FROZEN],
    "Plackett-Luce, vision tuned, balanced chains": PL,
    "Plackett-Luce and cross-entropy, vision frozen, balanced chains": [*PL, *FROZEN, "--xe_weight", "1"],
    "Plackett-Luce and cross-entropy, vision tuned, balanced chains": [*PL, "--xe_weight", "1"],
    "DPO and cross-entropy, vision frozen, balanced chains": [*DPO, *FROZEN, "--xe_weight", "1"],
    "Plackett-Luce, vision frozen, 1000 pictures": [*PL, *FROZEN, "--max_train_images", "1000"],
    "text-only xe": [],
    "text-only DPO, best and worst": [*DPO, *FROZEN],
    "text-only Plackett-Luce": [*PL, *FROZEN],
}
CAPTIONER = [
    *("--d_model", "256", "--heads", "8", "--ffn", "512", "--encoder_layers", "1", "--decoder_layers", "2"),
    *("--dropout", "0.1", "--vocab_size", "3000", "--freeze", "vision"),
]
XE = [
    *("--per_device_train_batch_size", "16", "--captions_per_image", "5", "--learning_rate", "1e-3"),
    *("--lr_scheduler_type", "cosine", "--warmup_steps", "100", "--weight_decay", "0.01", "--eval_strategy", "steps"),
]
RANKING = [
    *("--per_device_train_batch_size", "8", "--learning_rate", "3e-4", "--vision_learning_rate", "1e-5"),
    *("--lr_scheduler_type", "cosine", "--warmup_steps", "10", "--eval_strategy", "steps"),
]
ALL = ["--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"]
CONTROLS = ("true", "shuffled")
GENERATED = {"cider": "CIDEr", "rep_4_count": "Rep-4", "length": "length", "vocabulary": "vocabulary"}
LENGTH, FEWEST = 5, 4  # captions of a chain; of those that are ranked
BALANCED = "balanced chains"


class Ranking(Campaign):
    """The chains, captioners and runs of a data set of pictures or clips."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments.data, "", arguments.output, VARIANTS, arguments.jobs)
        self.source, self.join, self.tokens = arguments.data, arguments.join, str(arguments.max_tokens)
        self.steps, self.beta = {"xe": arguments.xe_steps, "ranking": arguments.steps}, arguments.beta
        self.vision = str(self.output / "vision")
        self.max_words, self.max_frames = arguments.max_words, 1
        self.published, self.pixels = arguments.vision, arguments.pixels

    def prepare(self) -> None:
        """The vision model at its size, chains, the texts that begin them, features; and all of it in grey."""
        if not Path(self.vision).exists():
            size = {"height": self.pixels, "width": self.pixels}
            AutoImageProcessor.from_pretrained(self.published, size=size).save_pretrained(self.vision)
            AutoModel.from_pretrained(self.published, dtype="float32").save_pretrained(self.vision)
        every = self.output / "every_chain.jsonl"
        options = ["--join", str(self.join), "--length", str(LENGTH), "--output", str(every)]
        self.rlcap("chains", "--data", self.source, *options)
        read = [json.loads(line) for line in every.read_text().splitlines()]
        chains = [chain for chain in read if max(map(_words, chain["captions"])) <= self.max_words]
        self.max_frames = max(len(chain.get("frames", [None])) for chain in chains)
        grey = (self.output / "grey.png").resolve()
        Image.new("RGB", (self.pixels, self.pixels), GREY).save(grey)
        for folder, blind in ((self.output, False), (self.output / "text-only", True)):
            folder.mkdir(exist_ok=True)
            shown = [_in_grey(chain, str(grey)) if blind else chain for chain in chains]
            _write(folder / "chains.jsonl", [chain for chain in shown if len(chain["captions"]) >= FEWEST])
            _write(folder / "texts.jsonl", _beginnings(shown))
            given = ["--vision", self.vision, "--data", str(folder / "texts.jsonl")]
            self.rlcap("features", *given, "--output", str(folder / "features"))

    def world(self, name: str) -> Path:
        """Where the data of a variant are: seen, or in grey."""
        return self.output / "text-only" if name.startswith("text-only") else self.output

    def folder(self, name: str, seed: int) -> Path:
        """Where a run is."""
        return self.output / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"

    def train(self, name: str, seed: int) -> None:
        """Trains a run to its end and measures it on the test split."""
        folder, world = self.folder(name, seed), self.world(name)
        stored = ["--features", str(world / "features")]
        chains = self.balanced(seed) if name.endswith(BALANCED) else world / "chains.jsonl"
        common = [*ALL, "--seed", str(seed), "--output_dir", str(folder), "--max_caption_length", self.tokens]
        common += ["--eval_max_new_tokens", self.tokens, "--max_val_images", "100", "--eval_num_beams", "1"]
        if not (folder / "final").exists():
            if name.endswith("xe"):
                new = ["--vision", self.vision, "--max_frames", str(self.max_frames), "--max_tokens", self.tokens]
                self.rlcap(
                    "xe", *new, *CAPTIONER, *XE, *self._for("xe", 3), *common, "--data", self._texts(name), *stored
                )
            else:
                start = ["--captioner", str(self._start(name, seed))]
                data = ["--data", str(chains), "--pictures", self._texts(name)]
                data += stored if "--freeze" in VARIANTS[name] else []
                settings = [*RANKING, *self._for("ranking", 2), "--beta", str(self.beta), *VARIANTS[name]]
                self.rlcap("rank-dpo", *start, *data, *settings, *common)
        self._measure(name, seed)
        if name == "text-only xe":
            self.balanced(seed)

    def balanced(self, seed: int) -> Path:
        """The chains of which `text-only xe`, over all, has half of the pairs in order: those of which it has less than
        half, and drawn ones with which it is right as often as it is wrong with these."""
        world = self.output / "text-only"
        scored, chosen = world / f"xe-{seed}.json", world / f"balanced-{seed}.jsonl"
        if not chosen.exists():
            blind = ["--captioner", str(self.folder("text-only xe", seed) / "best"), "--controls", "true"]
            data = ["--features", str(world / "features"), "--data", str(world / "chains.jsonl")]
            self.rlcap("rank-eval", *blind, *data, "--per-chain", "--output", str(scored))
            shares = [pairs_in_order(own["true"]) for own in json.loads(scored.read_text())["per_chain"]]
            seen = [json.loads(line) for line in (self.output / "chains.jsonl").read_text().splitlines()]
            groups = [(row["split"], len(row["captions"])) for row in seen]
            _write(chosen, [seen[number] for number in balance(groups, shares, seed)])
        return chosen

    def measure_balanced(self, name: str, seed: int) -> None:
        """Ranks the balanced chains of the test split."""
        file = self.folder(name, seed) / "balanced.json"
        if not file.exists():
            chains = ["--data", str(self.balanced(seed)), "--split", "test", "--controls", *CONTROLS]
            self.rlcap("rank-eval", *self._seeing(name, seed), *chains, "--output", str(file))

    def _seeing(self, name: str, seed: int) -> list[str]:
        """The captioner of a run, and the features of the pictures unless it has a vision model of its own."""
        own = name.endswith("xe") or "--freeze" in VARIANTS[name]
        features = ["--features", str(self.world(name) / "features")] if own else []
        return ["--captioner", str(self.folder(name, seed) / "best"), *features]

    def _measure(self, name: str, seed: int) -> None:
        folder, world = self.folder(name, seed), self.world(name)
        seen = self._seeing(name, seed)
        for rewards in (False, True)[: 1 if name.endswith("xe") else 2]:
            file = folder / f"{'implicit' if rewards else 'log_probs'}.json"
            if not file.exists():
                reference = ["--reference", str(self._start(name, seed))] if rewards else []
                chains = ["--data", str(world / "chains.jsonl"), "--split", "test", "--controls", *CONTROLS]
                self.rlcap("rank-eval", *seen, *reference, *chains, "--output", str(file))
        captions, scores = folder / "test.json", folder / "scores.json"
        texts = ["--split", "test"]
        if not captions.exists():
            length = ["--max-new-tokens", self.tokens, "--output", str(captions), "--quiet"]
            self.rlcap("caption", *seen, "--data", self._texts(name), *texts, *length)
        if not scores.exists():
            pair = ["--predictions", str(captions), "--references", self._texts(name)]
            self.rlcap("evaluate", *pair, *texts, "--no-java", "--output", str(scores))

    def _start(self, name: str, seed: int) -> Path:
        blind = name.startswith("text-only")
        return self.folder("text-only xe" if blind else "xe", seed) / "best"

    def _texts(self, name: str) -> str:
        return str(self.world(name) / "texts.jsonl")

    def _for(self, stage: str, evaluations: int) -> list[str]:
        steps = self.steps[stage]
        every = str(-(-steps // evaluations))
        return ["--max_steps", str(steps), "--eval_steps", every, "--save_steps", every, "--logging_steps", "10"]

    def measured(self, name: str, seed: int, file: str) -> dict[str, Any]:
        """A JSON file of a run; empty where it is not there."""
        path = self.folder(name, seed) / file
        found = json.loads(path.read_text()) if path.exists() else {}
        return found.get("controls", found)


def pairs_in_order(scores: Sequence[float]) -> Fraction:
    """Share of the pairs of a chain, best first, of which the better one has the higher score."""
    pairs = list(combinations(scores, 2))
    return Fraction(sum(better > worse for better, worse in pairs), len(pairs))


def balance(groups: Sequence[Hashable], shares: Sequence[Fraction], seed: int) -> list[int]:
    """Numbers of the chains, of each group as many with the share of pairs in order s as with 1 - s; in their order."""
    of: dict[tuple[Hashable, Fraction], list[int]] = {}
    for number, (group, share) in enumerate(zip(groups, shares, strict=True)):
        of.setdefault((group, share), []).append(number)
    drawn = random.Random(seed)
    kept: list[int] = []
    for (group, share), numbers in of.items():
        kept += drawn.sample(numbers, min(len(numbers), len(of.get((group, 1 - share), []))))
    return sorted(kept)


def _words(text: str) -> int:
    return len(text.split())


def _in_grey(chain: dict[str, Any], grey: str) -> dict[str, Any]:
    return chain | ({"frames": [grey] * len(chain["frames"])} if "frames" in chain else {"image": grey})


def _beginnings(chains: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a picture: the best captions of its chains are its references."""
    rows: dict[str, dict[str, Any]] = {}
    for chain in chains:
        kept = {key: chain[key] for key in ("image_id", "image", "frames", "split") if key in chain}
        rows.setdefault(chain["image_id"], kept | {"captions": []})["captions"].append(chain["captions"][0])
    return list(rows.values())


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tables(campaign: Ranking, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Order of unseen chains, as a whole and by kind of edit, and generated captions, as Markdown."""
    measured = [campaign.measured(name, seed, "log_probs.json").get("true", {}) for name in names for seed in seeds]
    kinds = sorted({key for own in measured for key in own if key.startswith(BY_KIND)})
    pairs = [
        *_both("log-probability", "log_probs.json", "pair_accuracy"),
        *_both("implicit reward", "implicit.json", "pair_accuracy"),
        *_both("balanced chains", "balanced.json", "pair_accuracy"),
    ]
    more = [
        *_both("steps", "log_probs.json", "adjacent_accuracy"),
        *_both("τ", "log_probs.json", "kendall_tau"),
        *_both("whole chains", "log_probs.json", "exact_order"),
    ]
    steps = [column for key in kinds for column in _both(key.removeprefix(BY_KIND), "log_probs.json", key)]
    generated = [Column(title, "scores.json", (key,)) for key, title in GENERATED.items()]
    of = {
        "pairs in order": pairs,
        "by log-probability": more,
        "steps, by log-probability": steps,
        "captions": generated,
    }
    return "\n\n".join(_table(campaign, names, seeds, title, columns) for title, columns in of.items())


class Column(NamedTuple):
    """Of a table: its title, the JSON file of each run, and where in it the value is; shares are shown times 100."""

    title: str
    file: str
    keys: tuple[str, ...]

    def value(self, campaign: Ranking, name: str, seed: int) -> float | None:
        """The value of a run; None where it was not measured."""
        found: Any = campaign.measured(name, seed, self.file)
        for key in self.keys:
            found = found.get(key, {})
        return None if found == {} else float(found) * (100 if self.keys[0] in CONTROLS else 1)


def _both(title: str, file: str, measure: str) -> list[Column]:
    return [Column(f"{title} {control}", file, (control, measure)) for control in CONTROLS]


def _table(campaign: Ranking, names: Sequence[str], seeds: Sequence[int], title: str, columns: Sequence[Column]) -> str:
    """A row a variant; columns and rows without a value are left out."""
    rows = {
        name: [[own for seed in seeds if (own := column.value(campaign, name, seed)) is not None] for column in columns]
        for name in names
    }
    kept = [number for number, _ in enumerate(columns) if any(row[number] for row in rows.values())]
    lines = [f"| {title} | " + " | ".join(columns[number].title for number in kept) + " | seeds |"]
    lines.append("|---" * (len(kept) + 2) + "|")
    for name, row in rows.items():
        if any(row):
            cells = " | ".join(cell(row[number]) for number in kept)
            lines.append(f"| {name} | {cells} | {max(map(len, row))} |")
    return "\n".join(lines)


def _worlds(name: str) -> tuple[bool, ...]:
    """Of which captioners by cross-entropy a variant needs: those that see, those that do not."""
    return (False, True) if name.endswith(BALANCED) else (name.startswith("text-only"),)


def run(campaign: Ranking, names: Sequence[str], seeds: Sequence[int], jobs: int) -> None:
    """Trains every variant with every seed, after the captioners by cross-entropy that it needs."""
    worlds = sorted({blind for name in names for blind in _worlds(name)})
    with ThreadPoolExecutor(jobs) as pool:
        first: dict[tuple[bool, int], Future[None]] = {
            (blind, seed): pool.submit(campaign.train, "text-only xe" if blind else "xe", seed)
            for seed in seeds
            for blind in worlds
        }

        def after(name: str, seed: int) -> None:
            for blind in _worlds(name):
                first[blind, seed].result()
            campaign.train(name, seed)

        rest = [name for name in names if not name.endswith("xe")]
        ended = [*first.values(), *(pool.submit(after, name, seed) for seed in seeds for name in rest)]
        for future in ended:
            future.result()
        if True in worlds:
            for future in [pool.submit(campaign.measure_balanced, name, seed) for name in names for seed in seeds]:
                future.result()


def main() -> None:
    """Runs the campaign and shows it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="captions of clips or pictures, in any format of rlcap")
    parser.add_argument("--vision", required=True, help="directory or hub id of the vision model")
    parser.add_argument("--output", required=True)
    parser.add_argument("--pixels", type=int, default=112, help="side of the pictures that the vision model is given")
    parser.add_argument("--join", type=int, default=4, help="references that make one text")
    parser.add_argument("--max-words", type=int, default=48, help="of a text; longer ones are left out")
    parser.add_argument("--max-tokens", type=int, default=96, help="room for a text: no chain may be cut")
    parser.add_argument("--xe-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=150, help="of ranking-DPO")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only-show", action="store_true", help="the tables of what is there")
    arguments = parser.parse_args()
    campaign = Ranking(arguments)
    if not arguments.only_show:
        campaign.prepare()
        run(campaign, arguments.variants, arguments.seeds, arguments.jobs)
    print(tables(campaign, arguments.variants, arguments.seeds))


if __name__ == "__main__":
    main()
