"""Ranking-DPO learns: unseen chains are ranked far better than before, and a detail that only a tuned encoder can see."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import scene_captioner

import captioners
from captioners import EncoderDecoder
from rlcap.data import load_captions, load_chains
from rlcap.data.scene_chains import write_scene_chains
from rlcap.data.scenes import draw_scene, make_scenes
from rlcap.training.ranking_arguments import RankingArguments
from rlcap.training.ranking_dpo import RankingTrainer
from rlcap.training.xe import XEArguments, XETrainer

pytestmark = pytest.mark.slow
COMMON: dict[str, Any] = {
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 10,
    "per_device_eval_batch_size": 50,
    "per_device_train_batch_size": 32,
    "warmup_steps": 10,
    "max_grad_norm": 1.0,
    "max_caption_length": 32,
}


def after_xe(captioner: EncoderDecoder, train: Dataset, folder: Path, **options: Any) -> EncoderDecoder:
    """The captioner after a little cross-entropy."""
    settings = {"learning_rate": 3e-3, "captions_per_image": 2, "lr_scheduler_type": "cosine", "dropout_off": True}
    args = XEArguments(output_dir=str(folder), **{**COMMON, **settings, **options})
    XETrainer(captioner, args, train).train()
    return captioner


def ranking(captioner: EncoderDecoder, train: Dataset, val: Dataset, folder: Path, **options: Any) -> RankingTrainer:
    args = RankingArguments(output_dir=str(folder), **{**COMMON, "eval_max_new_tokens": 20, **options})
    return RankingTrainer(captioner, args, train, val)


def test_unseen_chains_are_ranked_far_better_than_before(tmp_path: Path) -> None:
    source = make_scenes(tmp_path / "scenes", 600, 150, 0, seed=1, size=32)
    chains = write_scene_chains(source, length=5)
    captions = load_captions(source, split="train")
    captioner = after_xe(scene_captioner(captions, width=64, layers=2), captions, tmp_path / "xe", max_steps=120)
    options = {"max_steps": 100, "learning_rate": 5e-4}
    train, val = load_chains(chains, split="train"), load_chains(chains, split="val")
    trainer = ranking(captioner, train, val, tmp_path / "run", **options)
    before = trainer.other_measures(val)
    trainer.train()
    after = trainer.other_measures(val)
    print(before, after, sep="\n")
    assert after["assessment/pair_accuracy"] > before["assessment/pair_accuracy"] + 0.1
    assert after["ranking/pair_accuracy"] > 0.85


def twins(folder: Path, number: int, seed: int) -> Dataset:
    """Chains of pictures in pairs that differ in the colour alone; blue and purple have the same sum over channels."""
    rng, rows = random.Random(seed), []
    folder.mkdir()
    for index in range(number):
        background, wrong = rng.sample(("black", "white"), 2)
        radius, place = rng.uniform(0.2, 0.3), [rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65)]
        for colour, other in (("blue", "purple"), ("purple", "blue")):
            item = {"shape": "circle", "colour": colour, "radius": radius, "places": [[place]]}
            (picture,) = draw_scene({"background": background, "objects": [item]}, 32)
            picture.save(folder / f"{index}-{colour}.png")
            image_id = f"{index}-{colour}"
            row = {"image_id": image_id, "image": str(folder / f"{image_id}.png"), "split": "train"}
            said = ((colour, background), (other, background), (other, wrong))
            captions = [f"a {of_circle} circle on {behind}" for of_circle, behind in said]
            rows.append({**row, "captions": captions, "kinds": ["attribute", "scene"], "references": captions[:1]})
    return Dataset.from_list(rows)


def make_colour_blind(captioner: EncoderDecoder) -> None:
    """The encoder's input projection sees the sum over channels alone."""
    weight = captioner.model.encoder.embeddings.patch_embeddings.projection.weight
    with torch.no_grad():
        weight.copy_(weight.mean(1, keepdim=True).expand_as(weight))


def test_tuned_vision_learns_a_detail_that_the_frozen_encoder_cannot_see(tmp_path: Path) -> None:
    train, val = twins(tmp_path / "train", 200, seed=1), twins(tmp_path / "val", 50, seed=2)
    start = after_xe(scene_captioner(train, width=48, layers=2), train, tmp_path / "xe", max_steps=50)
    make_colour_blind(start)
    start.save_pretrained(tmp_path / "start")

    measured = {}
    for name, freeze in (("frozen", ["vision"]), ("tuned", [])):
        captioner = captioners.load(tmp_path / "start")
        trainer = ranking(captioner, train, val, tmp_path / name, freeze=freeze, max_steps=40, learning_rate=1e-3)
        trainer.train()
        measured[name] = trainer.other_measures(val)
        print(name, measured[name])
    colour, background = ("assessment/adjacent_accuracy/" + kind for kind in ("attribute", "scene"))
    assert measured["frozen"][colour] == 0.5  # it says the same of both twins,
    assert measured["frozen"][background] > 0.9  # and learns what it sees
    assert measured["tuned"][colour] > 0.9
    assert measured["tuned"][background] > 0.9
