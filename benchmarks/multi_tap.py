"""What a rating costs: one forward pass of MULTI-TAP against a generative judge, the same LVLM writing a short verdict.

    python benchmarks/multi_tap.py [--model DIR|ID] [--captions 16] [--repetitions 5] [--tokens 8]

Without a model a LLaVA of 64 million random weights is built from its configuration: a time then says how many passes
each side takes, and nothing about the quality of a verdict. Both sides read the same pictures and captions in the same
batches, take turns, and the judge generates exactly `--tokens` tokens with its key-value cache.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rewards.multi_tap import MultiTap, as_dtype
from rewards.multi_tap_model import RatingModel

QUESTION = "Is this a good caption of the picture? Answer with a number from 1 to 5: "
WORDS = [
    "a",
    "dog",
    "runs",
    "on",
    "the",
    "green",
    "grass",
    "with",
    "red",
    "ball",
    "and",
    "two",
    "children",
    "play",
    "near",
    "blue",
    "water",
]


def main() -> None:
    """Times both sides and prints milliseconds a caption."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="an image-text-to-text model; default: one of random weights")
    parser.add_argument("--captions", type=int, default=16)
    parser.add_argument("--words", type=int, default=12, help="words a caption")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8, help="tokens of a verdict")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.captions, 224, 224, 3)
    pictures = [Image.fromarray(pixels) for pixels in rng.integers(0, 256, shape, dtype=np.uint8)]
    captions = [" ".join(rng.choice(WORDS, arguments.words)) for _ in pictures]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = arguments.model or _random_model(folder / "base")
        RatingModel.create(base).save(folder / "rating")
        reward = MultiTap(path=folder / "rating", batch_size=arguments.batch_size)
    seconds: dict[str, list[float]] = {"multi-tap": [], "generative judge": []}
    for repetition in range(arguments.repetitions + 1):
        for side, own in seconds.items():
            started = time.perf_counter()
            if side == "multi-tap":
                reward(captions, images=pictures)
            else:
                _judge(reward, captions, pictures, arguments.tokens)
            if repetition:  # the first one warms up
                own.append(time.perf_counter() - started)
    ratios = [judge / ours for ours, judge in zip(*seconds.values(), strict=True)]
    weights = sum(p.numel() for p in reward.model.lvlm.parameters())
    print(f"{weights:,} weights, {reward.model.device}, {torch.get_num_threads()} threads; median (least, most)")
    for side, own in seconds.items():
        per_caption = [1000 * value / len(captions) for value in own]
        low, high = min(per_caption), max(per_caption)
        print(f"{side}: {statistics.median(per_caption):.1f} ms a caption ({low:.1f}, {high:.1f})")
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})")


@torch.inference_mode()
def _judge(reward: MultiTap, captions: list[str], pictures: list[Image.Image], tokens: int) -> None:
    """Verdicts of the same LVLM, `tokens` tokens each, on captions that stand in its request."""
    model, size = reward.model, reward.batch_size
    lvlm: Any = model.lvlm
    for start in range(0, len(captions), size):
        own = [[picture] for picture in pictures[start : start + size]]
        texts = [f"{model.prompt.request()} {QUESTION}{caption}" for caption in captions[start : start + size]]
        inputs = as_dtype(model.prompt.encode(texts, own, padding_side="left"), model.lvlm.dtype)
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        lvlm.generate(**inputs, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens)


def _random_model(directory: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    special = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
    named = dict.fromkeys([*special, *WORDS, *QUESTION.split(), "Describe", "this", "image."])
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(named)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    size = {"height": 224, "width": 224}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=32,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    layers: dict[str, Any] = {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1408}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(num_hidden_layers=4, image_size=224, patch_size=32, **layers),
        text_config=LlamaConfig(num_hidden_layers=6, vocab_size=32000, max_position_embeddings=512, **layers),
        image_token_index=tokenizer.vocab["<image>"],
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


if __name__ == "__main__":
    main()
