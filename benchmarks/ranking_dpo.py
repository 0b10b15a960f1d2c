"""One step of ranking-DPO on chains of five, against the usual forward of a row a caption: same model, same run.

    python benchmarks/ranking_dpo.py [--repetitions 5] [--threads 2] [--pixels 224]

A step is 8 pictures with a chain of 5 captions of about 20 tokens each, the Plackett-Luce objective, a frozen copy as
the reference, and everything trains, the vision model too.

    per caption  what TRL's DPOTrainer does with chosen and rejected: every caption is a row of its own, with its
                 picture beside it, so that policy and reference encode each picture five times; transformers' own
                 forward, log-softmax, backward, AdamW
    rlcap        `RankingTrainer.training_step` and the same AdamW step

The model is a VisionEncoderDecoder with random weights (ViT 2.8 M parameters, 16 px patches; GPT-2 4.4 M, vocabulary
5,000), as in scst_step.py. Before anything is timed both sides must agree: the loss to 1e-4, and every gradient to 1e-4
of the largest value in it.

Times are medians over repetitions in which both sides take turns; the goal is 2.5 times by the clock. The processor's
time beside it is what other processes on the machine hardly change. Memory is the peak resident
set of a process that takes steps of one side alone, over what it held before its first step.
"""

import argparse
import copy
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import datasets
import torch
from scst_step import corpus, status, vit_gpt2
from torch import Tensor

from rlcap.training.ranking_arguments import RankingArguments
from rlcap.training.ranking_dpo import RankingTrainer

PICTURES, CAPTIONS, WORDS, BETA = 8, 5, 14, 0.1
GOAL, TOLERANCE = 2.5, 1e-4
SIDES = {"per caption": "per_caption", "rlcap": "rlcap"}


def chains() -> list[list[str]]:
    """Chains of made-up words, each caption with one word more that differs from the first one."""
    rng = random.Random(0)
    captions = [caption for own in corpus().values() for caption in own]
    words = sorted({word for caption in captions for word in caption.split()})
    made = []
    for _ in range(PICTURES):
        caption = rng.sample(words, WORDS)
        chain = [" ".join(caption)]
        for place in rng.sample(range(WORDS), CAPTIONS - 1):
            caption[place] = rng.choice(words)
            chain.append(" ".join(caption))
        made.append(chain)
    return made


class Bench:
    """A captioner, its chains, and a step of either side."""

    def __init__(self, pixels: int) -> None:
        torch.manual_seed(0)
        self.captioner = vit_gpt2([caption for own in corpus().values() for caption in own], pixels)
        self.visual = {"pixel_values": torch.randn(PICTURES, 3, pixels, pixels)}
        self.rows: list[dict[str, Any]] = [
            {"image_id": str(number), "captions": chain, "kinds": [""] * (CAPTIONS - 1), "image": ""}
            for number, chain in enumerate(chains())
        ]
        self.folder = tempfile.TemporaryDirectory()
        args = RankingArguments(
            output_dir=self.folder.name,
            per_device_train_batch_size=PICTURES,
            max_caption_length=32,
            eval_max_new_tokens=32,
            beta=BETA,
            learning_rate=1e-6,
            use_cpu=True,
            disable_tqdm=True,
        )
        self.trainer = RankingTrainer(self.captioner, args, datasets.Dataset.from_list(self.rows))
        self.optimizer = self.trainer.create_optimizer()
        self.reference = copy.deepcopy(self.captioner.model).requires_grad_(False).eval()
        with torch.no_grad():  # both references are made: the policy has moved on since, so that there is a ranking
            for parameter in self.captioner.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        self.captions = self.captioner.tokenize([row["captions"] for row in self.rows])

    def rlcap(self) -> float:
        """The loss of one step of ours, backward done."""
        loss = self.trainer.training_step(self.captioner, {"visual": self.visual, "rows": self.rows, "bad": []})
        return loss.item()

    def per_caption(self) -> float:
        """The same of the usual way: B·K rows."""
        ids, mask = self.captions.ids.flatten(0, 1), self.captions.mask.flatten(0, 1)
        pixels = self.visual["pixel_values"].repeat_interleave(CAPTIONS, 0)
        start = torch.full_like(ids[:, :1], self.captioner.codec.special.start)
        inputs = {"pixel_values": pixels, "decoder_input_ids": torch.cat([start, ids[:, :-1]], 1)}
        with torch.no_grad():
            reference = _summed(self.reference(**inputs).logits, ids, mask)
        rewards = BETA * (_summed(self.captioner.model(**inputs).logits, ids, mask) - reference)
        behind = rewards.view(PICTURES, CAPTIONS)
        loss = sum(behind[:, k:].logsumexp(1) - behind[:, k] for k in range(CAPTIONS - 1)).mean()  # type: ignore[union-attr]
        loss.backward()
        return loss.item()

    def step(self, side: str) -> tuple[float, float]:
        """Seconds of the clock, and of the processor, that a whole step of one side takes."""
        started = time.perf_counter(), time.process_time()
        getattr(self, SIDES[side])()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.trainer.state.global_step += 1
        return time.perf_counter() - started[0], time.process_time() - started[1]

    def check(self) -> tuple[float, float]:
        """The loss, and how far gradients are apart; ends the program where either differs by more than TOLERANCE."""
        found = []
        for side in SIDES.values():
            loss = getattr(self, side)()
            found.append(
                (loss, {n: p.grad.clone() for n, p in self.captioner.named_parameters() if p.grad is not None})
            )
            self.optimizer.zero_grad()
        (loss, gradients), (our_loss, ours) = found
        apart = max(
            ((gradients[name] - ours[name]).abs().max() / gradients[name].abs().max().clamp(min=1e-12)).item()
            for name in gradients
            if not name.endswith("k_proj.bias")  # 0 in exact arithmetic
        )
        if gradients.keys() != ours.keys() or abs(loss - our_loss) > TOLERANCE or apart > TOLERANCE:
            sys.exit(f"the sides differ: losses {loss} and {our_loss}, gradients by {apart:.1e}")
        return loss, apart


def _summed(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    log_probs = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    return (log_probs * mask).sum(-1)


def peak_memory(side: str, pixels: int) -> None:
    """Takes three steps of one side and prints the peak of the resident set over what was there before, in MiB."""
    bench = Bench(pixels)
    before = status("VmRSS")
    for _ in range(3):
        bench.step(side)
    print(json.dumps({"mib": status("VmHWM") - before}))


def _memory_of(side: str, pixels: int, threads: int) -> float:
    what = ["--memory-of", side, "--pixels", str(pixels), "--threads", str(threads)]
    done = subprocess.run([sys.executable, __file__, *what], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["mib"]


def main() -> None:
    """Checks that both sides do the same, then compares them; exit code 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pixels", type=int, default=224, help="height and width of the pictures")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        peak_memory(arguments.memory_of, arguments.pixels)
        return
    bench = Bench(arguments.pixels)
    loss, gradient = bench.check()
    tokens = int(bench.captions.mask.sum()) / (PICTURES * CAPTIONS)
    print(
        f"{PICTURES} pictures x {CAPTIONS} captions of {tokens:.1f} tokens, {arguments.pixels} px, "
        f"{arguments.threads} threads, torch {torch.__version__}\n"
        f"same loss ({loss:.4f}), same gradients to {gradient:.1e} of their largest value"
    )
    for side in SIDES:
        bench.step(side)
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for _ in range(arguments.repetitions):
        for side, own in times.items():
            own.append(bench.step(side))
    print(f"{'':12}{'step ms':>9}{'CPU ms':>9}{'memory MiB':>12}")
    memory = {side: _memory_of(side, arguments.pixels, arguments.threads) for side in SIDES}
    for side, own in times.items():
        clock, processor = (1000 * statistics.median(column) for column in zip(*own, strict=True))
        print(f"{side:12}{clock:9.0f}{processor:9.0f}{memory[side]:12.0f}")
    for number, of in enumerate(("CPU time", "the clock")):
        ratios = [a[1 - number] / b[1 - number] for a, b in zip(times["per caption"], times["rlcap"], strict=True)]
        ratio = statistics.median(ratios)
        print(f"by {of}: {ratio:.2f} times faster (from {min(ratios):.2f} to {max(ratios):.2f})")
    if ratio < GOAL or memory["rlcap"] >= memory["per caption"]:
        sys.exit(f"the goal is {GOAL} times, with less memory")


if __name__ == "__main__":
    main()
