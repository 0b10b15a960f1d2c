"""A chain of captions behind one prefix of a chat model, against the usual forward a caption: same model, same run.

    python benchmarks/shared_prefix.py [--models qwen2-vl llava] [--repetitions 5] [--threads 2] [--checkpointing]

A step is 2 pictures x a chain of 5 captions of 20 tokens, Plackett-Luce over the chain, forward and backward through
language model, connector and vision tower.

    per caption  every caption is a row with its own copy of the picture, as in TRL's DPOTrainer: the model's own
                 forward on 10 rows, of whose positions only those of the captions get logits
    shared       `captioner(visual, captions)`: the picture and the prompt run once a chain

Models, with random weights, whose prefixes are more than 10 times as long as a caption:

    qwen2-vl  448 x 448 pixels, 256 tokens a picture; vision 2.0 M parameters (4 layers), decoder 6.0 M (4 layers)
    llava     224 x 224 pixels, 256 tokens a picture; vision 2.4 M parameters (5 layers), decoder 6.0 M (4 layers)

The goal is 2.5 times. Both sides must give the same loss and, parameter by parameter, the same gradient to 1e-4.
--checkpointing computes layers again in backward on both sides, so that ours runs packed sequences instead of a cache.

Times are medians over repetitions in which both sides take turns. Memory is the peak resident set of a process that
takes steps of one side alone, over what it held before its first step.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from captioners import CaptionTokens, Chat
from captioners.tokenizer import train_tokenizer
from rlcap.objectives.ranking import implicit_rewards, plackett_luce

PICTURES, CHAIN, LENGTH, VOCABULARY, GOAL, BETA = 2, 5, 20, 5000, 2.5, 0.1
TOLERANCE = 1e-4
SIDES = ("per caption", "shared")
TEXT = {
    **{"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "max_position_embeddings": 1024},
}
TEMPLATE = (
    "{% for message in messages %}user: {% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<eos> {% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Made-up words, as many as the vocabulary has room for."""
    rng = random.Random(0)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = sorted({"".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(2 * VOCABULARY)})
    trained = train_tokenizer([" ".join(rng.choices(words, k=12)) for _ in range(2000)], VOCABULARY - len(special))
    trained.add_special_tokens({"additional_special_tokens": list(special)})
    return trained


def qwen2_vl() -> tuple[Chat, int]:
    """A Qwen2-VL, and the side of its pictures in pixels."""
    marks = ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>")
    words = tokenizer(*marks)
    names = ("vision_start_token_id", "image_token_id", "video_token_id", "vision_end_token_id")
    numbers: dict[str, Any] = {name: words.vocab[mark] for name, mark in zip(names, marks, strict=True)}
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE.replace("IMAGE", "".join((marks[0], marks[1], marks[3]))),
    )
    rope = {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={**TEXT, **_ids(words), "vocab_size": VOCABULARY, "rope_parameters": rope},
        vision_config={"depth": 4, "embed_dim": 192, "num_heads": 3, "hidden_size": 256, "mlp_ratio": 4},
        tie_word_embeddings=False,
        **numbers,
    )
    return Chat(Qwen2VLForConditionalGeneration(config), processor), 448


def llava() -> tuple[Chat, int]:
    """A LLaVA, and the side of its pictures in pixels."""
    words = tokenizer("<image>")
    size = {"height": 224, "width": 224}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    tower = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 5, "num_attention_heads": 3}
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **tower, "image_size": 224, "patch_size": 14},
        text_config={"model_type": "llama", **TEXT, **_ids(words), "vocab_size": VOCABULARY},
        image_token_index=words.vocab["<image>"],
        tie_word_embeddings=False,
    )
    return Chat(LlavaForConditionalGeneration(config), processor), 224


def _ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    return {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}


MODELS: dict[str, Callable[[], tuple[Chat, int]]] = {"qwen2-vl": qwen2_vl, "llava": llava}


class Bench:
    """A model, its chains, and the loss of either side with its gradients."""

    def __init__(self, model: str, checkpointing: bool) -> None:
        torch.manual_seed(0)
        self.captioner, side = MODELS[model]()
        self.captioner.freeze()
        self.captioner.dropout_off = True
        if checkpointing:
            self.captioner.gradient_checkpointing_enable()
        self.captioner.train()
        generator = np.random.default_rng(0)
        pictures = [Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(2)]
        self.visual = self.captioner.preprocess(pictures)
        ids = torch.randint(10, VOCABULARY - 10, (PICTURES, CHAIN, LENGTH))
        present = torch.ones(PICTURES, CHAIN, dtype=torch.bool)
        self.captions = CaptionTokens(ids, torch.ones_like(ids, dtype=torch.bool), present, present)
        self.prefix = self.visual["prompt_ids"].shape[1] + 1
        assert self.prefix >= 10 * LENGTH

    def loss(self, side: str) -> Tensor:
        """Plackett-Luce of the chains, whose reference is a uniform model."""
        log_probs = self._shared() if side == "shared" else self._per_caption()
        uniform = torch.full_like(log_probs, -float(np.log(VOCABULARY)))
        rewards = implicit_rewards(log_probs, uniform, self.captions.mask, BETA)
        return plackett_luce(rewards, self.captions.caption_mask).mean

    def step(self, side: str) -> float:
        """Seconds of a forward and backward."""
        self.captioner.zero_grad()
        started = time.perf_counter()
        self.loss(side).backward()
        return time.perf_counter() - started

    def _shared(self) -> Tensor:
        return self.captioner(dict(self.visual), self.captions).log_probs

    def _per_caption(self) -> Tensor:
        model, special = self.captioner.model, self.captioner.codec.special
        prompts = torch.nn.functional.pad(self.visual["prompt_ids"], (0, 1), value=special.start)
        ids = torch.cat([prompts.repeat_interleave(CHAIN, dim=0), self.captions.ids.flatten(0, 1)], dim=1)
        pictures: dict[str, Any] = {"pixel_values": self._repeated("pixel_values")}
        if "image_grid_thw" in self.visual:
            pictures["image_grid_thw"] = self.visual["image_grid_thw"].repeat_interleave(CHAIN, dim=0)
            pictures["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
        logits = model(
            **pictures, input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=LENGTH + 1, use_cache=False
        ).logits[:, :-1]
        log_probs = logits.float().log_softmax(-1).gather(-1, ids[:, -LENGTH:, None]).squeeze(-1)
        return log_probs.view(PICTURES, CHAIN, LENGTH)

    def _repeated(self, name: str) -> Tensor:
        # Qwen2-VL's pixels are one list of patches, picture after picture.
        by_picture = self.visual[name].unflatten(0, (PICTURES, -1))
        return by_picture.repeat_interleave(CHAIN, dim=0).flatten(0, 1)

    def gradients(self, side: str) -> tuple[float, dict[str, Tensor]]:
        """The loss, and the gradients by name."""
        self.captioner.zero_grad()
        loss = self.loss(side)
        loss.backward()
        named = self.captioner.named_parameters()
        return loss.item(), {name: p.grad.clone() for name, p in named if p.grad is not None}


def check(bench: Bench) -> str:
    """Raises AssertionError unless both sides agree; says by how much they differ."""
    (loss, gradients), (ours, own) = bench.gradients("per caption"), bench.gradients("shared")
    assert abs(loss - ours) < TOLERANCE, f"losses {loss} and {ours}"
    assert gradients.keys() == own.keys()
    differences = {name: (own[name] - gradient).abs().max().item() for name, gradient in gradients.items()}
    worst = max(differences, key=differences.__getitem__)
    assert differences[worst] < TOLERANCE, f"gradients of {worst} differ by {differences[worst]}"
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    return (
        f"loss {ours:.4f}, difference {abs(loss - ours):.1e}; gradients up to {largest:.1e}, "
        f"largest difference {differences[worst]:.1e}"
    )


def peak_memory(model: str, side: str, checkpointing: bool) -> None:
    """Takes three steps of one side and prints the peak of the resident set over what was there before, in MiB."""
    bench = Bench(model, checkpointing)
    before = _status("VmRSS")
    for _ in range(3):
        bench.step(side)
    print(json.dumps({"mib": _status("VmHWM") - before}))


def _status(key: str) -> float:
    """A figure of this process in MiB. (`getrusage` would tell the peak of the process that started this one.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(kib) / 1024


def _memory_of(model: str, side: str, checkpointing: bool, threads: int) -> float:
    command = [sys.executable, __file__, "--memory-of", side, "--models", model, "--threads", str(threads)]
    done = subprocess.run(
        [*command, *(["--checkpointing"] if checkpointing else [])], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])["mib"]


def compare(model: str, repetitions: int, checkpointing: bool, threads: int) -> tuple[float, bool]:
    """Prints both sides; returns how many times faster ours is, and whether its peak of memory is lower."""
    bench = Bench(model, checkpointing)
    agreement = check(bench)
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repetitions):
        for side in SIDES:
            times[side].append(bench.step(side))
    memory = {side: _memory_of(model, side, checkpointing, threads) for side in SIDES}
    print(f"\n{model}: prefix {bench.prefix}, caption {LENGTH} tokens; {agreement}")
    for side in SIDES:
        print(f"{side:12}{1000 * statistics.median(times[side]):9.0f} ms{memory[side]:9.0f} MiB")
    ratios = [a / b for a, b in zip(*(times[side] for side in SIDES), strict=True)]
    ratio = statistics.median(ratios)
    print(f"ratio       {ratio:.2f} times faster (from {min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return ratio, memory["shared"] < memory["per caption"]


def main() -> None:
    """Compares every model; exit code 1 where ours misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--checkpointing", action="store_true", help="layers are computed again in backward")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        peak_memory(arguments.models[0], arguments.memory_of, arguments.checkpointing)
        return
    print(
        f"{PICTURES} pictures x {CHAIN} captions x {LENGTH} tokens, {arguments.threads} threads, "
        f"torch {torch.__version__}{', gradient checkpointing' if arguments.checkpointing else ''}"
    )
    missed = []
    for model in arguments.models:
        ratio, lighter = compare(model, arguments.repetitions, arguments.checkpointing, arguments.threads)
        if ratio < GOAL or not lighter:
            missed.append(model)
    sys.exit(f"less than the goal: {missed}" if missed else 0)


if __name__ == "__main__":
    main()
