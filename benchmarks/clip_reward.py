"""PAC-S of one SCST step, against the published scoring loop, in one process, on the same weights and the same inputs.

    python benchmarks/clip_reward.py [--captions dataset_flickr8k.json --images FOLDER] [--repetitions 3]

A step scores 16 pictures x 5 sampled captions with random weights of ViT-B/32's size in float32. Pictures are in memory
on both sides.

ours           one call of `pac-s`: each picture and each distinct caption once, captions cut after the longest one.
ours, again    other captions of the same pictures, as in a later epoch: their features are kept.
published      as aimagelab/pacscore describes its scoring: a data loader over (picture, caption) pairs in batches of 64
               pictures, and of 256 captions padded to 77 tokens; each pair is encoded; w x max(cos, 0) in numpy. Its
               loaders start six worker processes a call; here they run in this process, which favours it.

Exit code 1 where any two scores differ by more than 1e-4.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from rewards.clip_s import PacS
from rewards.open_clip_encoder import OpenClipEncoder

PICTURES, SAMPLES = 16, 5
TOLERANCE = 1e-4
ARCHITECTURE = "ViT-B-32-quickgelu"
PREFIX = "A photo depicts "


def flickr8k(captions: Path, images: Path, rng: random.Random) -> tuple[list[Image.Image], list[list[str]]]:
    """Photographs, and twice five captions each: the beginning of one of its own and the end of another picture's."""
    test = [image for image in json.loads(captions.read_text())["images"] if image["split"] == "test"]
    sentences = [sentence["raw"].split() for image in test for sentence in image["sentences"]]
    chosen = rng.sample(test, PICTURES)
    pictures = [Image.open(images / image["filename"]).convert("RGB") for image in chosen]
    sampled = [
        [
            " ".join([*rng.choice(image["sentences"])["raw"].split()[: rng.randint(2, 6)], *rng.choice(sentences)[-6:]])
            for _ in range(2 * SAMPLES)
        ]
        for image in chosen
    ]
    return pictures, sampled


def generated(rng: random.Random) -> tuple[list[Image.Image], list[list[str]]]:
    """Noise of Flickr8k's size and captions of about its length, where there are no real ones."""
    noise = np.random.default_rng(rng.randint(0, 2**31))
    pictures = [Image.fromarray(noise.integers(0, 256, (375, 500, 3), dtype=np.uint8)) for _ in range(PICTURES)]
    words = ["a", "the", "dog", "woman", "red", "runs", "sits", "jumps", "in", "on", "snow", "grass", "water", "street"]
    captions = [[" ".join(rng.choices(words, k=rng.randint(8, 13))) for _ in range(2 * SAMPLES)] for _ in pictures]
    return pictures, captions


class Published:
    """The published way to a score, on a model of open_clip in OpenAI's layout."""

    def __init__(self, model: nn.Module, transform: Callable, w: float) -> None:
        self.model = model
        self.transform = transform
        self.w = w

    def __call__(self, pictures: Sequence[Image.Image], captions: Sequence[str]) -> np.ndarray:
        """One score a pair."""
        seen = self._encode(pictures, self.transform, self.model.encode_image, 64)
        read = self._encode(captions, lambda text: open_clip.tokenize(PREFIX + text)[0], self.model.encode_text, 256)
        seen = seen / np.sqrt((seen**2).sum(axis=1, keepdims=True))
        read = read / np.sqrt((read**2).sum(axis=1, keepdims=True))
        return self.w * np.clip((seen * read).sum(axis=1), 0, None)

    @staticmethod
    @torch.no_grad()
    def _encode(items: Sequence, prepare: Callable, encode: Any, batch_size: int) -> np.ndarray:
        inputs: Any = [prepare(item) for item in items]
        loader: Any = DataLoader(inputs, batch_size=batch_size, shuffle=False, num_workers=0)
        return np.vstack([encode(batch).numpy() for batch in loader])


def seconds(call: Callable[[], Sequence[float] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How long the call took, by the clock and in processor time, and its scores."""
    start = np.array([time.perf_counter(), time.process_time()])
    scores = call()
    return np.array([time.perf_counter(), time.process_time()]) - start, np.asarray(scores)


def step(encoder: OpenClipEncoder, published: Published, pictures: list, captions: list) -> tuple[dict, np.ndarray]:
    """Seconds by name, and both sides' scores [2, 80]."""
    repeated = [picture for picture in pictures for _ in range(SAMPLES)]
    ids = [str(i) for i in range(PICTURES) for _ in range(SAMPLES)]
    first = [caption for own in captions for caption in own[:SAMPLES]]
    later = [caption for own in captions for caption in own[SAMPLES:]]
    for tokenize in (encoder.tokenize, open_clip.tokenize):  # which keep the words that they have met
        tokenize([PREFIX + caption for caption in (*first, *later)])
    reward = PacS(backbone=encoder, device="cpu")
    theirs, their_scores = seconds(lambda: published(repeated, first))
    ours, our_scores = seconds(lambda: reward(first, images=repeated, image_id=ids))
    again, _ = seconds(lambda: reward(later, images=repeated, image_id=ids))
    return {"published": theirs, "ours": ours, "again": again}, np.stack([our_scores, their_scores])


def main() -> int:
    """Prints the table; 1 where scores differ."""
    data = Path(__file__).resolve().parents[2] / "shared/data/flickr8k"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, default=data / "dataset_flickr8k.json", help="Karpathy JSON")
    parser.add_argument("--images", type=Path, default=data / "images", help="without them pictures are noise")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    real = arguments.captions.is_file() and arguments.images.is_dir()

    model = open_clip.create_model(ARCHITECTURE).eval()
    config = open_clip.get_model_config(ARCHITECTURE)
    encoder = OpenClipEncoder(model, ARCHITECTURE, {"backbone": f"{ARCHITECTURE}, random"}, config)
    published = Published(model, open_clip.image_transform(224, is_train=False), PacS.published_w)
    inputs = [
        flickr8k(arguments.captions, arguments.images, rng) if real else generated(rng)
        for _ in range(arguments.repetitions)
    ]
    # Random towers put pictures and captions anywhere; mirrored where needed, so that few scores are clamped to 0.
    pictures, captions = inputs[0]
    with torch.no_grad():
        seen, read = encoder(
            encoder.preprocess(pictures[:2]), **encoder.tokenize([PREFIX + c for c in captions[0][:2]])
        )
        model.visual.proj.mul_((seen @ read.T).mean().sign())
    steps = [step(encoder, published, *own) for own in inputs]
    scores = np.stack([own for _, own in steps])
    worst = np.abs(scores[:, 0] - scores[:, 1]).max()
    median = {name: np.median([times[name] for times, _ in steps], axis=0) for name in steps[0][0]}

    print(f"\nPAC-S, {PICTURES} pictures x {SAMPLES} captions a step, ViT-B/32 in float32, random weights, ", end="")
    print(f"{torch.get_num_threads()} thread(s), median of {arguments.repetitions} steps, ", end="")
    print(f"{'Flickr8k' if real else 'generated'} inputs\n")
    print(f"{'':34}{'captions/s':>12}{'seconds':>10}{'ratio':>9}{'CPU s':>10}{'ratio':>9}")
    labels = {"published": "published loop", "ours": "ours", "again": "ours, again: pictures are kept"}
    for name, label in labels.items():
        (clock, cpu), (ratio, cpu_ratio) = median[name], median["published"] / median[name]
        print(f"{label:34}{PICTURES * SAMPLES / clock:12.1f}{clock:10.2f}{ratio:8.1f}x{cpu:10.2f}{cpu_ratio:8.1f}x")
    ratios = ["{:.1f} ({:.1f})".format(*times["published"] / times["ours"]) for times, _ in steps]
    print(f"\nratio of ours, step by step, by the clock (in CPU time): {', '.join(ratios)}")
    print(f"largest difference of scores: {worst:.1e}; {(scores[:, 1] > 0).mean():.0%} of them are above 0")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
