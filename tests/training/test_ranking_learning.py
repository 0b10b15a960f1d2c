"""Ranking-DPO learns: unseen chains far better than before, and with vision tuned what a frozen encoder cannot see.

The pictures are scenes of a single circle, whose details a tiny vision model learns to see in seconds. Whole scenes
take longer: why the quickstart's stage is too short for them is in docs/results.md.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import scene_captioner

import captioners
from captioners import EncoderDecoder
from rlcap.data.scenes import BACKGROUNDS, COLOURS, draw_scene
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


def circles(folder: Path, places: int, seed: int, colours: tuple[str, ...]) -> Dataset:
    """Drawn circles, at every place one of each colour, and chains of three: true, another colour, another background.

    Pictures of one place differ in the colour alone.
    """
    rng, rows = random.Random(seed), []
    folder.mkdir()
    for index in range(places):
        background, wrong = rng.sample(sorted(BACKGROUNDS), 2)
        radius, place = rng.uniform(0.2, 0.3), [rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65)]
        for colour in colours:
            item = {"shape": "circle", "colour": colour, "radius": radius, "places": [[place]]}
            (picture,) = draw_scene({"background": background, "objects": [item]}, 32)
            image_id = f"{index}-{colour}"
            picture.save(folder / f"{image_id}.png")
            other = rng.choice([own for own in colours if own != colour])
            said = ((colour, background), (other, background), (other, wrong))
            captions = [f"a {of_circle} circle on {behind}" for of_circle, behind in said]
            row = {"image_id": image_id, "image": str(folder / f"{image_id}.png"), "split": "train"}
            rows.append({**row, "captions": captions, "kinds": ["attribute", "scene"], "references": captions[:1]})
    return Dataset.from_list(rows)


def test_unseen_chains_are_ranked_far_better_than_before(tmp_path: Path) -> None:
    train, val = circles(tmp_path / "train", 60, 1, tuple(COLOURS)), circles(tmp_path / "val", 15, 2, tuple(COLOURS))
    captioner = after_xe(scene_captioner(train, width=48, layers=2), train, tmp_path / "xe", max_steps=25)
    trainer = ranking(captioner, train, val, tmp_path / "run", max_steps=120, learning_rate=1e-3)
    before = trainer.other_measures(val)
    trainer.train()
    after = trainer.other_measures(val)
    print(before, after, sep="\n")
    assert before["assessment/pair_accuracy"] < 0.7
    assert after["assessment/pair_accuracy"] > 0.9
    assert after["ranking/pair_accuracy"] > 0.9


def make_colour_blind(captioner: EncoderDecoder) -> None:
    """The encoder's input projection sees the sum over channels alone."""
    weight = captioner.model.encoder.embeddings.patch_embeddings.projection.weight
    with torch.no_grad():
        weight.copy_(weight.mean(1, keepdim=True).expand_as(weight))


def test_tuned_vision_learns_a_detail_that_the_frozen_encoder_cannot_see(tmp_path: Path) -> None:
    colours = ("blue", "purple")  # whose sums over the channels are the same
    train, val = circles(tmp_path / "train", 200, 1, colours), circles(tmp_path / "val", 50, 2, colours)
    start = after_xe(scene_captioner(train, width=48, layers=2), train, tmp_path / "xe", max_steps=50)
    make_colour_blind(start)
    start.save_pretrained(tmp_path / "start")

    measured = {}
    for name, freeze in (("frozen", ["vision"]), ("tuned", [])):
        captioner = captioners.load(tmp_path / "start")
        trainer = ranking(captioner, train, val, tmp_path / name, freeze=freeze, max_steps=80, learning_rate=1e-3)
        trainer.train()
        measured[name] = trainer.other_measures(val)
        print(name, measured[name])
    colour, background = ("assessment/adjacent_accuracy/" + kind for kind in ("attribute", "scene"))
    assert measured["frozen"][colour] == 0.5  # it says the same of both twins,
    assert measured["frozen"][background] > 0.9  # and learns what it sees
    assert measured["tuned"][colour] > 0.9
    assert measured["tuned"][background] > 0.9
