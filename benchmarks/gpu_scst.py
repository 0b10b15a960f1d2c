"""SCST on a GPU with a captioner of BLIP-base's size: captions a second sampled and trained.

    python benchmarks/gpu_scst.py [--pictures 16] [--repetitions 5]

Random weights in BLIP-base's shape (ViT-B of 384 px, 12 layers of text decoder, vocabulary 30,524), bf16 under
autocast, 5 samples of 20 tokens a picture, CIDEr-D as the reward; everything trains. On the same card, taking turns:

    naive     Hugging Face `generate` with 5 return sequences, pycocoevalcap's tokeniser (Java) and CIDEr, a pass over
              all captions with teacher forcing that encodes every picture for each of them
    rlcap     `SCSTTrainer.training_step`
    compiled  the same with sampling at fixed shapes: `torch.compile`, mode "reduce-overhead" (CUDA graphs)

The limit of decoding is what reading the decoder's bf16 weights and the keys and values takes at each step, at the
bandwidth that copying a GiB on this card shows. `--tiny` runs the script on a model of a few thousand weights, on a CPU
where there is no GPU, and says nothing about speed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from scst_step import LENGTH, SAMPLES, Bench
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from captioners import Blip
from captioners.tokenizer import train_tokenizer

PIXELS, VOCABULARY = 384, 30_524


def blip(captions: list[str], pixels: int, tiny: bool) -> Blip:
    """A BLIP with random weights, of BLIP-base's size or of next to none."""
    tokenizer = train_tokenizer(captions, 2000)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = small if tiny else {}
    vocabulary = len(tokenizer) if tiny else VOCABULARY
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(
        text_config={"vocab_size": vocabulary, "encoder_hidden_size": 32 if tiny else 768, **ids, **sizes},
        vision_config={"image_size": pixels, **sizes},
    )
    processor = BlipProcessor(BlipImageProcessor(size={"height": pixels, "width": pixels}), tokenizer)
    return Blip(BlipForConditionalGeneration(config), processor)


def bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of copying a GiB."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * source.numel() / best


def bytes_a_step(bench: Bench) -> float:
    """What a step of decoding must read: weights, a picture's keys and values once, the captions' own on average."""
    decoder = bench.captioner._text_model()
    config = decoder.config
    weights = sum(parameter.numel() for parameter in decoder.parameters())
    positions = (PIXELS // 16) ** 2 + 1
    a_layer = 2 * config.hidden_size * (positions + SAMPLES * LENGTH / 2)
    return 2 * (weights + bench.pictures * config.num_hidden_layers * a_layer)


def main() -> None:
    """Prints a table: milliseconds by phase, captions a second, and the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="only to see that the script runs")
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not arguments.tiny:
        sys.exit("gpu_scst measures a GPU, and there is none here (--tiny runs it on a CPU, without meaning)")
    device = "cuda" if on_gpu else "cpu"
    pixels = 32 if arguments.tiny else PIXELS
    make = partial(
        Bench, partial(blip, tiny=arguments.tiny), "leave_one_out", pixels, pictures=arguments.pictures, device=device
    )
    ordinary, compiled = make(), make()
    compiled.captioner.compile_sampling(**({"mode": "reduce-overhead"} if on_gpu else {"backend": "aot_eager"}))
    steps: dict[str, Callable[[], dict[str, float]]] = {
        "naive": ordinary.naive,
        "rlcap": ordinary.rlcap,
        "compiled": compiled.rlcap,
    }
    for step in steps.values():  # the first ones compile and record
        step()
        step()
    times: dict[str, list[dict[str, float]]] = {side: [] for side in steps}
    for _ in range(arguments.repetitions):
        for side, step in steps.items():
            times[side].append(step())
    captions = arguments.pictures * SAMPLES
    name = torch.cuda.get_device_name() if on_gpu else "CPU"
    print(f"{name}, torch {torch.__version__}: {arguments.pictures} x {SAMPLES} captions of {LENGTH} tokens")
    print(f"{'':10}{'encode':>8}{'sample':>8}{'reward':>8}{'update':>8}{'step':>8}{'sampled/s':>11}{'trained/s':>11}")
    medians = {
        side: {phase: statistics.median(own[phase] for own in found) for phase in found[0]}
        for side, found in times.items()
    }
    for side, own in medians.items():
        cells = "".join(f"{1000 * seconds:8.0f}" for seconds in own.values())
        sampled = captions / (own["encode"] + own["sample"])
        print(f"{side:10}{cells}{sampled:11,.0f}{captions / own['step']:11,.0f}")
    if on_gpu:
        limit = captions / (LENGTH * bytes_a_step(ordinary) / bandwidth(torch.device(device)))
        decoded = captions / medians["compiled"]["sample"]
        print(f"limit of decoding by memory bandwidth: {limit:,.0f} captions a second; compiled: {decoded:,.0f}")


if __name__ == "__main__":
    main()
