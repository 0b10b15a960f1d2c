"""One step of ranking-DPO against every caption scored by itself, what a step runs, and what is logged of it."""

import copy
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chains import chain_dataset, clip_dataset, ranking_trainer
from datasets import Dataset
from small import Recorder
from tiny import (
    CAPTIONERS,
    CAPTIONS,
    CHATS,
    tiny_encoder_decoder,
    tiny_florence2,
    tiny_grid_transformer,
    tiny_qwen2_vl,
    vision_rows,
)
from torch import Tensor
from torch.nn.functional import logsigmoid

from captioners import Captioner
from rewards.reward import as_reward
from rlcap.data.collate import open_visual
from rlcap.data.images import open_image
from rlcap.data.write_features import write_features
from rlcap.rank_eval import rank_evaluation
from rlcap.training.captioner_trainer import CaptionerTrainer

BETA = 0.3


def alone(captioner: Captioner, row: dict[str, Any]) -> list[Tensor]:
    """The token log-probabilities of each caption of a chain, each with a forward and an encoding of its own."""
    found = []
    for caption in row["captions"]:
        visual = captioner.preprocess([open_visual(row)])
        captions = captioner.tokenize([[caption]], max_length=24)
        found.append(captioner(visual, captions).log_probs[0, 0][captions.mask[0, 0]])
    return found


def loss_by_hand(captioner: Captioner, at_start: Captioner, rows: list[dict[str, Any]], **options: Any) -> Tensor:
    """The mean over chains of the objective, written out."""
    losses = []
    for row in rows:
        policy = alone(captioner, row)
        with torch.no_grad():
            before = alone(at_start, row)
        ratios = [ours - theirs for ours, theirs in zip(policy, before, strict=True)]
        averaged = options.get("loss_normalization") == "sequence"
        s = torch.stack([BETA * (ratio.mean() if averaged else ratio.sum()) for ratio in ratios])
        if options.get("objective") == "bradley_terry":
            pairs = {
                "all": list(combinations(range(len(s)), 2)),
                "adjacent": [(k, k + 1) for k in range(len(s) - 1)],
                "best_worst": [(0, len(s) - 1)],
            }[options["pairs"]]
            smoothing = options.get("label_smoothing", 0.0)
            terms = [-(1 - smoothing) * logsigmoid(s[i] - s[j]) - smoothing * logsigmoid(s[j] - s[i]) for i, j in pairs]
            loss = torch.stack(terms).mean()
        elif options.get("objective") == "lambda":
            ranks = (s[None] > s[:, None]).sum(1) + 1
            gains, discounts = 2.0 ** torch.arange(len(s) - 1, -1, -1), 1 / torch.log(1.0 + ranks)
            weights = (gains[:, None] - gains).abs() * (discounts[:, None] - discounts).abs()
            pairs = combinations(range(len(s)), 2)
            loss = torch.stack([-weights[i, j] * logsigmoid(s[i] - s[j]) for i, j in pairs]).sum()
        else:
            loss = torch.stack([s[k:].logsumexp(0) - s[k] for k in range(len(s))]).sum()
        losses.append(loss - options.get("xe_weight", 0.0) * policy[0].mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("build", [tiny_encoder_decoder, tiny_florence2, tiny_grid_transformer])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "bradley_terry", "pairs": "adjacent", "xe_weight": 0.5},
        {"objective": "bradley_terry", "pairs": "best_worst", "label_smoothing": 0.1},
        {"loss_normalization": "sequence", "freeze": ["vision"]},
        {"freeze": ["vision", "connector"], "objective": "bradley_terry", "pairs": "all"},
        {"objective": "lambda"},
        {"reference": "stored", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 3, "xe_weight": 0.5},
    ],
    ids=str,
)
def test_gradient_equals_captions_scored_by_themselves(build: Any, options: dict[str, Any], tmp_path: Path) -> None:
    assert_gradient_by_hand(build(dropout=0.1), options, tmp_path)


@pytest.mark.parametrize("build", CHATS.values(), ids=CHATS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_chat_models_too(build: Any, checkpointing: bool, tmp_path: Path) -> None:
    assert_gradient_by_hand(build(), {"gradient_checkpointing": checkpointing}, tmp_path)


@pytest.mark.parametrize(("build", "checkpointing"), [(tiny_encoder_decoder, False), (tiny_qwen2_vl, True)])
def test_clips_too(build: Any, checkpointing: bool, tmp_path: Path) -> None:
    captioner = build(max_frames=3, dropout=0.0)
    captioner.layout = "packed"
    assert_gradient_by_hand(captioner, {"gradient_checkpointing": checkpointing}, tmp_path, clip_dataset(tmp_path, 6))


def assert_gradient_by_hand(
    captioner: Captioner, options: dict[str, Any], tmp_path: Path, dataset: Dataset | None = None
) -> None:
    at_start, by_hand = copy.deepcopy(captioner), copy.deepcopy(captioner)
    dataset = dataset or chain_dataset(tmp_path, 6)
    recorder = Recorder()
    settings = {"beta": BETA, "per_device_train_batch_size": 6, "learning_rate": 1e-2, **options}
    trainer = ranking_trainer(captioner, dataset, tmp_path / "run", recorder, **settings)
    trainer.train()

    by_hand.load_state_dict(recorder.weights[1])  # the second step, in which the policy is no longer the reference
    by_hand.eval()
    loss = loss_by_hand(by_hand, at_start.eval(), list(dataset), **options)
    loss.backward()
    assert trainer.state.log_history[1]["loss"] == pytest.approx(loss.item(), abs=1e-4)
    expected = {name: p.grad for name, p in by_hand.named_parameters() if p.grad is not None}
    gradients = recorder.gradients[1]
    assert gradients
    assert all(gradients[name].allclose(expected[name], rtol=1e-3, atol=1e-4) for name in gradients)
    largest = max(gradient.abs().max() for gradient in gradients.values())
    assert largest > 1e-2  # so that 1e-4 says something


def test_two_captions_are_dpo(tmp_path: Path) -> None:
    losses = []
    for name, options in (("pl", {}), ("bt", {"objective": "bradley_terry"})):
        trainer = ranking_trainer(
            tiny_encoder_decoder(), chain_dataset(tmp_path, 6, most=2), tmp_path / name, max_steps=3, **options
        )
        trainer.train()
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][0] == pytest.approx(torch.tensor(2.0).log().item())


@pytest.mark.parametrize("build", CAPTIONERS.values(), ids=CAPTIONERS)
def test_every_captioner_encodes_a_chain_once(build: Any, tmp_path: Path) -> None:
    captioner = build()
    before = copy.deepcopy(captioner.state_dict())
    trainer = ranking_trainer(captioner, chain_dataset(tmp_path, 3), tmp_path / "run", max_steps=1, learning_rate=1e-2)
    rows = vision_rows(captioner)
    trainer.train()
    assert rows == [3]  # three chains with two, three and four captions
    vision = {id(p) for module in captioner.parts()["vision"] for p in module.parameters()}
    moved = [name for name, p in captioner.named_parameters() if id(p) in vision and not p.equal(before[name])]
    assert moved


def test_a_frozen_vision_model_runs_once_for_policy_and_reference(tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    trainer = ranking_trainer(captioner, chain_dataset(tmp_path, 3), tmp_path / "run", freeze=["vision"])
    rows = vision_rows(captioner)  # the reference shares it
    trainer.train()
    assert rows == [3, 3]


def test_stored_features_stand_in_for_pictures(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 6)
    captioner = tiny_grid_transformer("resnet", dropout=0.0)
    store = write_features(captioner, dataset, tmp_path / "features")
    for file in tmp_path.glob("*.png"):
        file.unlink()
    options = {"freeze": ["vision"], "features": store, "val": dataset, "eval_strategy": "steps", "eval_steps": 2}
    trainer = ranking_trainer(captioner, dataset, tmp_path / "run", **options)
    rows = vision_rows(captioner)
    trainer.train()
    assert rows == []
    assert "eval/ranking/pair_accuracy" in trainer.state.log_history[-2]


def test_dropout_is_off_by_default(tmp_path: Path) -> None:
    losses = []
    for name in ("a", "b"):
        trainer = ranking_trainer(
            tiny_encoder_decoder(dropout=0.5 if name == "b" else 0.0), chain_dataset(tmp_path, 4), tmp_path / name
        )
        trainer.train()
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[0] == losses[1]


def test_what_is_logged(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 6)
    captioner = tiny_encoder_decoder()
    at_start = copy.deepcopy(captioner).eval()
    options = {"eval_strategy": "steps", "eval_steps": 3, "max_steps": 3, "learning_rate": 1e-2, "beta": BETA}
    ranking_trainer(captioner, dataset, tmp_path / "run", val=dataset, **options).train()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    captioner.eval()
    rewards, best, right, pairs, by_kind = [], [], 0, 0, []
    with torch.no_grad():
        for row in dataset:
            ours, theirs = alone(captioner, row), alone(at_start, row)
            s = [BETA * (a - b).sum().item() for a, b in zip(ours, theirs, strict=True)]
            rewards.append(s)
            best.append(ours[0].sum().item())
            right += sum(s[i] > s[j] for i, j in combinations(range(len(s)), 2))
            pairs += len(s) * (len(s) - 1) // 2
            by_kind += [s[k] > s[k + 1] for k, kind in enumerate(row["kinds"]) if kind == "object"]
    measured = lines[-1]
    assert measured["step"] == 3
    expected = {
        "eval/rewards/position_1": sum(s[0] for s in rewards) / 6,
        "eval/rewards/position_4": sum(s[3] for s in rewards if len(s) > 3) / 2,
        "eval/rewards/margin_best_worst": sum(s[0] - s[-1] for s in rewards) / 6,
        "eval/log_probs/best": sum(best) / 6,
        "eval/ranking/pair_accuracy": right / pairs,
        "eval/ranking/adjacent_accuracy/object": sum(by_kind) / len(by_kind),
    }
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert measured["eval/kl_lower_bound"] > 0
    assert {"eval/assessment/kendall_tau", "eval/assessment/adjacent_accuracy/attribute", "eval/cider"} <= set(measured)
    assert {"eval/rep_4_count", "eval/bad_ending_rate"} <= set(measured)
    first = lines[0]
    assert not {"kl", "eval/kl"} & (set(first) | set(measured))  # which is another measure, of samples (SCST)
    assert (
        first["kl_lower_bound"] == first["rewards/margin"] == first["ranking/pair_accuracy"] == 0.0
    )  # it is the reference still
    assert {"rewards/position_2", "ranking/exact_order", "log_probs/worst", "time/encode"} <= set(first)


def test_generation_is_measured_once_a_picture_against_the_best_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = chain_dataset(tmp_path, 3)
    again = dataset.map(lambda row: {"captions": row["captions"][::-1], "kinds": row["kinds"]})
    both = Dataset.from_list([row for pair in zip(dataset, again, strict=True) for row in pair])
    capsys.readouterr()
    trainer = ranking_trainer(tiny_encoder_decoder(), both, tmp_path / "run", val=both)
    pictures = trainer.pictures_of(both)
    assert capsys.readouterr().err == ""  # no bar of `datasets`
    assert pictures["image_id"] == ["0", "1", "2"]
    assert pictures["references"][0] == [CAPTIONS[0], CAPTIONS[1]]
    assert isinstance(trainer, CaptionerTrainer)
    assert trainer.evaluate()["eval_captions"] == 3


def test_chains_that_are_the_same_when_cut_are_named(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 2)
    longer = dataset.map(lambda row: {"captions": [c.replace(".", " today.") for c in CAPTIONS[:1]] + CAPTIONS[:1]})
    told = r'(?s)2 of 2 chains .* reads 6 tokens of each \(4 of 4 captions are cut.*"0": .*; "1": '
    with pytest.raises(ValueError, match=told):
        ranking_trainer(tiny_encoder_decoder(), longer, tmp_path / "run", max_caption_length=6)


def test_long_captions_are_read_as_far_as_the_captioner_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = tiny_encoder_decoder()
    limit = captioner.codec.limit
    tokens = captioner.tokenize([[CAPTIONS[0]]]).ids.shape[2] - 1
    fits, longer = (" ".join([CAPTIONS[0]] * times) for times in ((limit - 1) // tokens, limit // tokens + 1))
    held = chain_dataset(tmp_path, 1).map(lambda row: {"captions": [fits, CAPTIONS[1]]})
    trainer = ranking_trainer(
        captioner, held, tmp_path / "run", val=held, max_caption_length=None, eval_max_new_tokens=None
    )
    assert trainer.args.max_caption_length == limit
    assert trainer.args.eval_max_new_tokens == captioner.tokenize([[fits]]).ids.shape[2] > 8
    assert "are cut" not in capsys.readouterr().out
    train = held.map(lambda row: {"captions": [fits, longer]})
    trainer = ranking_trainer(captioner, train, tmp_path / "run", max_caption_length=None)
    assert f"1 of 2 captions of the training chains are cut at {limit} tokens" in capsys.readouterr().out
    assert trainer.args.eval_max_new_tokens == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "ipo"}, "objective is 'ipo'; it must be one of plackett_luce, bradley_terry, lambda"),
        ({"pairs": "adjacent"}, "pairs is 'adjacent'; it must be left out with objective plackett_luce"),
        ({"beta": 0.0}, "beta is 0.0; it must be above 0"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5; it must be 0 or more and below 0.5"),
        ({"reference": "none"}, "reference is 'none'; it must be one of frozen_copy, adapters_off, stored"),
        ({"reference_dir": "x"}, "reference_dir is 'x'; it must be left out unless reference is stored"),
        ({"eval_reward_options": {"pac-s": {}}}, r"eval_reward_options is \['pac-s'\]; it must be among the rewards"),
        ({"captions_per_image": 2}, "captions_per_image is 2; it must be left out"),
        ({"eval_strategy": "steps", "metric_for_best_model": "pair"}, "metric_for_best_model is 'pair'"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ranking_trainer(tiny_encoder_decoder(), chain_dataset(tmp_path, 2), tmp_path / "run", **options)


def test_answers_to_another_prompt_are_not_learned_as_captions(tmp_path: Path) -> None:
    captioner = CHATS["llava"]() if "llava" in CHATS else next(iter(CHATS.values()))()
    dataset = chain_dataset(tmp_path, 3)
    others = dataset.add_column("prompt", [captioner.prompt, "What colour is it?", "How many?"])
    with pytest.raises(ValueError, match=r"2 of 3 chains answer another prompt .*'What colour is it\?'"):
        ranking_trainer(captioner, others, tmp_path / "run")
    with pytest.raises(ValueError, match="1 of 1 chains answer another prompt"):
        ranking_trainer(captioner, others.select([0]), tmp_path / "run", val=others.select([1]))
    with pytest.raises(ValueError, match="2 of 3 chains answer another prompt"):
        rank_evaluation(captioner, others)
    own = dataset.add_column("prompt", [captioner.prompt] * 3)
    ranking_trainer(captioner, own, tmp_path / "run", val=own)


def test_generated_captions_are_measured_by_rewards_that_can_choose_the_best(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 5)
    args = {"eval_strategy": "steps", "eval_steps": 2, "eval_rewards": ["brightness", "length"]}
    trainer = ranking_trainer(
        *(tiny_encoder_decoder(), dataset, tmp_path / "run"),
        val=dataset,
        measuring=[as_reward(brightness), as_reward(length)],
        metric_for_best_model="rewards/length",
        per_device_eval_batch_size=2,
        **args,
    )
    trainer.train()
    captions = json.loads((tmp_path / "run" / "captions" / "eval-000002.json").read_text())
    measured = next(line for line in trainer.state.log_history if "eval/cider" in line)
    assert measured["eval/rewards/length"] == pytest.approx(sum(map(len, captions.values())) / 5)
    means = [float(np.asarray(open_image(row["image"])).mean()) for row in dataset]
    assert measured["eval/rewards/brightness"] == pytest.approx(sum(means) / 5)
    assert trainer.best["value"] == measured["eval/rewards/length"]


def length(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(caption)) for caption in completions]


def brightness(completions: list[str], images: list[Any], **columns: Any) -> list[float]:
    return [float(np.asarray(image).mean()) for image in images]
