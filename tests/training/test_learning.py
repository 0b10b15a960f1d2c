"""Training learns: a tiny captioner of drawn scenes by cross-entropy, then from rewards what cross-entropy did not."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import scene_captioner

import captioners
import rewards
from captioners import EncoderDecoder
from rlcap.data import load_captions
from rlcap.data.scenes import make_scenes
from rlcap.training.scst import SCSTTrainer
from rlcap.training.scst_arguments import SCSTArguments
from rlcap.training.xe import XEArguments, XETrainer

pytestmark = pytest.mark.slow
COMMON: dict[str, Any] = {
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 10,
    "per_device_eval_batch_size": 50,
    "eval_max_new_tokens": 24,
    "max_grad_norm": 1.0,
}


def mentions_red(completions: list[str], **kwargs: Any) -> list[float]:
    """A reward function in TRL's signature."""
    return [float("red" in completion.lower().split()) for completion in completions]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    source = make_scenes(tmp_path_factory.mktemp("drawn") / "scenes", 1500, 400, 0, seed=1, size=32)
    return load_captions(source, split="train"), load_captions(source, split="val")


@pytest.fixture(scope="module")
def after_xe(drawn: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a captioner that cross-entropy brings little further."""
    folder = tmp_path_factory.mktemp("xe")
    args = XEArguments(
        output_dir=str(folder),
        max_steps=300,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        captions_per_image=2,
        **COMMON,
    )
    trainer = XETrainer(scene_captioner(drawn[0], width=64, layers=2), args, *drawn)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < 0.3 * losses[0]
    trainer.captioner.save_pretrained(folder / "xe")
    return folder / "xe"


def scst(start: Path, drawn: tuple[Dataset, Dataset], output: Path, reward: Any, **options: Any) -> SCSTTrainer:
    settings = {"warmup_steps": 5, "lr_scheduler_type": "constant_with_warmup", "max_new_tokens": 24}
    args = SCSTArguments(output_dir=str(output), **{**COMMON, **settings, **options})
    captioner = captioners.load(start)
    assert isinstance(captioner, EncoderDecoder)
    return SCSTTrainer(captioner, args, *drawn, reward_functions=[reward])


def sampled(trainer: SCSTTrainer) -> list[float]:
    return [line["reward"] for line in trainer.state.log_history if "reward" in line]


def cider(trainer: SCSTTrainer, dataset: Dataset, reward: Any, num_beams: int) -> float:
    """The mean reward of one decoded caption a picture."""
    trainer.args.eval_num_beams = num_beams
    captions = trainer.caption(dataset)
    names = dataset["image_id"]
    values = reward([captions[name] for name in names], references=dataset["references"], image_id=names)
    return sum(values) / len(values)


def test_scst_raises_cider_above_cross_entropy(after_xe: Path, drawn: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    corpus = {row["image_id"]: row["references"] for row in drawn[0]}
    reward = rewards.load("cider-d", corpus=corpus)
    options = {
        "max_steps": 300,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "per_device_train_batch_size": 32,
    }
    trainer = scst(after_xe, drawn, tmp_path, reward, **options)
    unseen = drawn[1]
    before = {beams: cider(trainer, unseen, reward, beams) for beams in (1, 3)}
    trainer.train()
    for beams, start in before.items():
        assert cider(trainer, unseen, reward, beams) > 1.1 * start, beams


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "policy_gradient"},
        {"objective": "policy_gradient", "num_iterations": 2},
        {"objective": "plackett_luce"},
        {"objective": "dico", "dico_temperature": 1.0},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_made_up_reward_is_learned(
    options: dict[str, Any], after_xe: Path, drawn: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    reward = rewards.load("test_learning:mentions_red")
    options = {"max_steps": 50, "learning_rate": 2e-4, "per_device_train_batch_size": 16, **options}
    trainer = scst(after_xe, drawn, tmp_path, reward, **options)
    val = drawn[1]
    before = sum(mentions_red(list(trainer.caption(val).values())))
    trainer.train()
    rewarded = sampled(trainer)
    assert rewarded[0] < 0.4
    assert rewarded[-1] > 2 * rewarded[0]
    assert sum(mentions_red(list(trainer.caption(val).values()))) > 2 * before
