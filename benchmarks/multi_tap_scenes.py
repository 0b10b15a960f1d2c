"""Whether MULTI-TAP's mechanism works: a tiny LVLM learns ratings that follow from drawn scenes.

    python benchmarks/multi_tap_scenes.py --output runs/multi_tap_scenes [--seeds 0 1 2]

Scenes of one object in a place, or of two objects that stand to each other. A caption states every colour, shape and
position, each of them wrong with a chance of 0.4; its rating is the share of its facts that are true, and the
objectives `colour`, `shape` and `position` are the shares by kind. A LLaVA of about a million weights, built from its
configuration, first learns to caption the training scenes, then to answer whether a colour or a shape is in them (it
stands for a pre-trained LVLM, which has learned as much from captions, questions and answers). Then
`rlcap reward multi-tap` runs both stages. Test scenes are seen by neither. It stands for the mechanism, not for the
published numbers.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from rewards.multi_tap_prompt import RatingPrompt
from rlcap.cli import main as rlcap
from rlcap.data.scene_captions import RELATION_PHRASES
from rlcap.data.scenes import COLOURS, PLACES, RELATIONS, SHAPES, draw_scene, scene_rows

WRONG = 0.4
SIDE, PATCH = 64, 16
KINDS = ("single", "pair")
COLUMNS = {
    "kendall_b": "Kendall τ-b",
    "pearson": "Pearson",
    "mae": "MAE",
    "mae_of_mean": "MAE of the mean",
    "accuracy": "accuracy",
    "accuracy_of_mean": "accuracy of the mean",
}
TEMPLATE = (
    "{% for m in messages %}{{ '<s> ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image> ' }}{% else %}{{ c['text'] }} {% endif %}{% endfor %}{{ '</s> ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<s> ' }}{% endif %}"
)


def main() -> None:
    """Draws, pre-trains, runs both stages for each seed, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scenes", type=int, default=24000, help="scenes drawn to train on, of all kinds")
    parser.add_argument("--caption-steps", type=int, default=4000)
    parser.add_argument("--question-steps", type=int, default=1500)
    parser.add_argument("--captions", type=int, default=2, help="rated captions a scene")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        torch.manual_seed(seed)
        folder = Path(arguments.output) / f"seed-{seed}"
        data, train = write_ratings(folder, arguments.scenes, arguments.captions, seed)
        base = folder / "base"
        if not (base / "config.json").is_file():
            started = time.perf_counter()
            pretrain(base, train, (arguments.caption_steps, arguments.question_steps), seed)
            print(f"seed {seed}: captions and answers learned in {time.perf_counter() - started:.0f} s", flush=True)
        started = time.perf_counter()
        rlcap(
            [
                *(
                    "reward",
                    "multi-tap",
                    "--model",
                    str(base),
                    "--data",
                    str(data),
                    "--output_dir",
                    str(folder / "run"),
                ),
                *("--num_train_epochs", str(arguments.epochs), "--learning_rate", str(arguments.learning_rate)),
                *("--per_device_train_batch_size", "64", "--per_device_eval_batch_size", "64", "--report_to", "none"),
                *("--rating_range", "0", "1", "--logging_steps", "50", "--seed", str(seed), "--use_cpu", "true"),
                *("--lr_scheduler_type", "cosine", "--warmup_steps", "50", "--disable_tqdm", "true"),
            ]
        )
        print(f"seed {seed}: both stages in {time.perf_counter() - started:.0f} s", flush=True)
    print(table([Path(arguments.output) / f"seed-{seed}" / "run" / "ratings.json" for seed in arguments.seeds]))


def table(files: list[Path]) -> str:
    """What the test scenes of each seed gave, seed after seed in each cell, as Markdown."""
    measured = [json.loads(file.read_text())["test"] for file in files]
    lines = ["| test scenes | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in measured[0]:
        cells = [", ".join(f"{seed[name][key]:.3f}" for seed in measured if key in seed[name]) for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_ratings(folder: Path, scenes: int, captions: int, seed: int) -> tuple[Path, list[tuple[Path, str, str]]]:
    """Draws scenes and writes `ratings.jsonl`; returns it and the training pictures, each with what is said of it."""
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines, train = [], []
    for row in scene_rows(scenes, scenes // 20, scenes // 10, seed):
        facts = row["facts"]
        if facts["kind"] not in KINDS:
            continue
        path = folder / "images" / f"{row['image_id']}.png"
        draw_scene(facts, SIDE)[0].save(path)
        if row["split"] == "train":
            train.append((path, stated(facts, rng), answered(facts, rng)))
        for _ in range(captions):
            claimed, true = claims(facts, rng)
            every = [holds for kind in true.values() for holds in kind]
            line = {
                "image": f"images/{path.name}",
                "image_id": row["image_id"],
                "split": row["split"],
                "caption": stated(claimed, rng),
                "rating": sum(every) / len(every),
                "objectives": {kind: sum(own) / len(own) for kind, own in true.items()},
            }
            lines.append(json.dumps(line) + "\n")
    data = folder / "ratings.jsonl"
    data.write_text("".join(lines))
    return data, train


def claims(facts: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], dict[str, list[bool]]]:
    """What a caption says of a scene, and which of it is true, by kind."""
    true: dict[str, list[bool]] = {"colour": [], "shape": [], "position": []}

    def said(kind: str, value: str, others: list[str]) -> str:
        wrong = rng.random() < WRONG
        true[kind].append(not wrong)
        return rng.choice([other for other in others if other != value]) if wrong else value

    objects = [
        {
            "colour": said("colour", own["colour"], sorted(COLOURS)),
            "shape": said("shape", own["shape"], sorted(SHAPES)),
        }
        for own in facts["objects"]
    ]
    places = sorted(PLACES if facts["kind"] == "single" else RELATIONS)
    return {**facts, "objects": objects, "relation": said("position", facts["relation"], places)}, true


def stated(facts: dict[str, Any], rng: random.Random) -> str:
    """The caption that states these facts."""
    named = [f"a {own['colour']} {own['shape']}" for own in facts["objects"]]
    if facts["kind"] == "single":
        return f"{named[0]} in the {facts['relation']}"
    return f"{named[0]} {rng.choice(RELATION_PHRASES[facts['relation']])} {named[1]}"


def answered(facts: dict[str, Any], rng: random.Random) -> str:
    """A colour or a shape, and whether an object of the scene has it: as often yes as no."""
    kind, values = rng.choice([("colour", sorted(COLOURS)), ("shape", sorted(SHAPES))])
    there = [own[kind] for own in facts["objects"]]
    if rng.random() < 0.5:
        return f"{rng.choice(there)} yes"
    return f"{rng.choice([value for value in values if value not in there])} no"


def pretrain(base: Path, train: list[tuple[Path, str, str]], steps: tuple[int, int], seed: int) -> None:
    """Teaches a new LLaVA to caption the training scenes, then to answer of them, and saves it with its processor."""
    from PIL import Image

    torch.manual_seed(seed)
    paths, captions, replies = zip(*train, strict=True)
    processor = new_processor(sorted({word for text in (*captions, *replies) for word in text.split()}))
    model = new_model(processor)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(train):,} training scenes", flush=True)
    prompt = RatingPrompt(processor)
    pictures = [[Image.open(path).convert("RGB")] for path in paths]
    inputs = prompt(pictures, captions)
    teach(model, inputs, answers(inputs["input_ids"], processor.tokenizer), steps[0], 1e-3, seed, "captions")
    texts = prompt(pictures[:1] * len(replies), replies)
    said = torch.isin(texts["input_ids"], torch.tensor(processor.tokenizer.convert_tokens_to_ids(["yes", "no"])))
    inputs = {**texts, "pixel_values": inputs["pixel_values"]}
    teach(model, inputs, torch.where(said, texts["input_ids"], -100), steps[1], 5e-4, seed, "answers")
    model.save_pretrained(base)
    processor.save_pretrained(base)


def teach(
    model: LlavaForConditionalGeneration,
    inputs: dict[str, Tensor],
    labels: Tensor,
    steps: int,
    rate: float,
    seed: int,
    what: str,
) -> None:
    """Cross-entropy on the labels, 64 rows a step."""
    if not steps:
        return
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(len(labels), (64,), generator=generator)
        loss = model(**{name: value[rows] for name, value in inputs.items()}, labels=labels[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  {what}, step {step}: loss {loss.item():.3f}", flush=True)


def answers(ids: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """The labels: the tokens after the second `<s>`, which begins the answer; -100 elsewhere."""
    begins = torch.eq(ids, tokenizer.vocab["<s>"])
    begun = (begins.cumsum(1) == 2) & ~begins & (ids != tokenizer.pad_token_id)
    return torch.where(begun, ids, -100)


def new_processor(words: list[str]) -> LlavaProcessor:
    """A tokenizer of these words, and pictures as they are drawn."""
    special = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *words, "Describe", "this", "image."]))}
    words_alone = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words_alone.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words_alone,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    size = {"height": SIDE, "width": SIDE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def new_model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """About 0.9 million weights: 2 layers that see and 3 that read, of 128 dimensions."""
    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_token, vision_feature_layer=-1)
    )


if __name__ == "__main__":
    main()
