"""One step of the trainer against the policy gradient written out by hand, and what a step runs."""

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import Recorder, picture_dataset
from tiny import favour_end, tiny_encoder_decoder, tiny_grid_transformer, vision_rows
from torch import Tensor

from captioners import EncoderDecoder
from rewards.reward import as_reward
from rlcap.data.images import open_image
from rlcap.data.write_features import write_features
from rlcap.training.scst import SCSTTrainer
from rlcap.training.scst_arguments import SCSTArguments

K, TEMPERATURE = 4, 0.8


class Noted:
    """A reward in TRL's form that keeps what it was called with, and what it said."""

    __name__ = "noted"
    needs = frozenset({"completion_ids", "image_id", "finished"})

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        ids = columns["completion_ids"]
        values = [sum(tokens) % 7 / 3 - len(tokens) / 5 for tokens in ids]
        self.calls.append({"ids": ids, "image_id": columns["image_id"], "values": values})
        return values


def temperature_of(baseline: str) -> float:
    """Beams are not drawn, so they have none."""
    return 1.0 if baseline == "beam_mean" else TEMPERATURE


def scst_trainer(
    captioner: Any, dataset: Dataset, output: Path, reward: Any, recorder: Recorder | None = None, **options: Any
) -> SCSTTrainer:
    features, val = options.pop("features", None), options.pop("val", None)
    eval_rewards = options.pop("eval_functions", [])
    settings = {"max_steps": 2, "per_device_train_batch_size": 3, "learning_rate": 1e-3, "max_grad_norm": 0.0}
    fixed = {"num_samples": K, "max_new_tokens": 8, "max_caption_length": 24}
    settings["temperature"] = temperature_of(options.get("baseline", "leave_one_out"))
    rest = {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_strategy": "no"}
    args = SCSTArguments(output_dir=str(output), **{**settings, **fixed, **rest, **options})
    return SCSTTrainer(
        captioner,
        args,
        dataset,
        val,
        reward_functions=reward if isinstance(reward, list) else [reward],
        eval_rewards=eval_rewards,
        callbacks=[recorder] if recorder else None,
        features=features,
    )


def log_probs_by_hand(captioner: EncoderDecoder, image: Any, ids: list[int], temperature: float) -> Tensor:
    """One picture and one caption through transformers' own model, [L]."""
    pixels = captioner.preprocess([image])["pixel_values"]
    inputs = torch.tensor([[captioner.codec.special.start, *ids[:-1]]])
    logits = captioner.model(pixel_values=pixels, decoder_input_ids=inputs).logits[0] / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


def mean_over(values: list[Tensor], normalization: str) -> Tensor:
    """Of one tensor a caption: over all tokens, or over captions, each averaged first."""
    return torch.cat(values).mean() if normalization == "token" else torch.stack([v.mean() for v in values]).mean()


def advantages_by_hand(values: Tensor, baseline: str, scale: bool) -> Tensor:
    samples = values[:, :K]
    if baseline == "greedy":
        return samples - values[:, K:]
    others = (samples.sum(1, keepdim=True) - samples) / (K - 1)
    result = samples - (others if baseline == "leave_one_out" else samples.mean(1, keepdim=True))
    return result / (samples.std(1, keepdim=True) + 1e-4) if scale else result


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": "greedy"},
        {"baseline": "leave_one_out", "loss_normalization": "sequence"},
        {"baseline": "group", "scale_rewards": True, "xe_weight": 0.5},
        {"baseline": "beam_mean", "kl_beta": 0.7},
        {"baseline": "greedy", "kl_beta": 0.4, "xe_weight": 0.3, "loss_normalization": "sequence"},
        {"baseline": "leave_one_out", "freeze": ["vision"]},
        {"baseline": "leave_one_out", "dropout_off": False},
        {"baseline": "group", "dropout_off": False, "freeze": ["vision"], "kl_beta": 0.7},
    ],
    ids=str,
)
def test_gradient_equals_reinforce_by_hand(options: dict[str, Any], tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder(dropout=0.1 if options.get("dropout_off", True) else 0.0)
    favour_end(captioner)
    temperature = temperature_of(options["baseline"])
    at_start, by_hand = copy.deepcopy(captioner), copy.deepcopy(captioner)
    dataset = picture_dataset(tmp_path, 3)
    reward, recorder = Noted(), Recorder()
    scst_trainer(captioner, dataset, tmp_path / "run", reward, recorder, **options).train()

    call = reward.calls[1]  # of the second step, in which the policy is no longer the reference
    rows = {row["image_id"]: row for row in dataset}
    by_hand.load_state_dict(recorder.weights[1])
    per_picture = K + (options["baseline"] == "greedy")
    assert len(call["ids"]) == 3 * per_picture
    assert len({len(ids) for ids in call["ids"]}) > 1
    images = {name: open_image(row["image"]) for name, row in rows.items()}
    advantage = advantages_by_hand(
        torch.tensor(call["values"]).view(3, per_picture), options["baseline"], options.get("scale_rewards", False)
    )
    policy, penalties, likelihoods = [], [], []
    for b in range(3):
        name = call["image_id"][b * per_picture]
        for k in range(K):
            ids = call["ids"][b * per_picture + k]
            log_probs = log_probs_by_hand(by_hand, images[name], ids, temperature)
            policy.append(-advantage[b, k] * log_probs)
            difference = log_probs_by_hand(at_start, images[name], ids, temperature).detach() - log_probs
            penalties.append(difference.exp() - difference - 1)
        for reference in rows[name]["references"]:
            tokens = by_hand.tokenize([[reference]])
            reference_ids = tokens.ids[tokens.mask].tolist()
            likelihoods.append(-log_probs_by_hand(by_hand, images[name], reference_ids, temperature))
    how = options.get("loss_normalization", "token")
    loss = mean_over(policy, how)
    loss = loss + options.get("kl_beta", 0.0) * mean_over(penalties, how)
    loss = loss + options.get("xe_weight", 0.0) * mean_over(likelihoods, how)
    loss.backward()
    expected = {name: parameter.grad for name, parameter in by_hand.named_parameters() if parameter.grad is not None}
    found = recorder.gradients[1]
    trained = {name for name in expected if not name.startswith("model.encoder.") or "freeze" not in options}
    assert found.keys() == trained
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5 * largest), name


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy", "beam_mean"])
@pytest.mark.parametrize("freeze", [["vision"], ["vision", "connector"], []], ids=str)
def test_each_picture_is_seen_once_a_phase(baseline: str, freeze: list[str], tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("vit")
    dataset = picture_dataset(tmp_path, 6)
    options = {"baseline": baseline, "freeze": freeze, "kl_beta": 0.1}
    trainer = scst_trainer(captioner, dataset, tmp_path / "run", Noted(), **options)
    own = vision_rows(captioner)
    trainer.train()
    # Two steps of three pictures: one encoding serves sampling and the differentiable pass.
    assert own == [3, 3]


@pytest.mark.parametrize("freeze", [["vision"], []], ids=str)
def test_dropout_separates_the_phases(freeze: list[str], tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("vit")
    dataset = picture_dataset(tmp_path, 6)
    trainer = scst_trainer(captioner, dataset, tmp_path / "run", Noted(), freeze=freeze, dropout_off=False)
    own = vision_rows(captioner)
    trainer.train()
    # Where the vision model trains, once to sample and once with dropout and gradient.
    assert own == ([3, 3] if freeze else [3, 3, 3, 3])


def test_samples_are_drawn_in_the_precision_they_are_scored_in(tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder()
    trainer = scst_trainer(captioner, picture_dataset(tmp_path, 3), tmp_path / "run", Noted(), bf16=True, use_cpu=True)
    seen: dict[str, set[torch.dtype]] = {"sample": set(), "forward": set()}
    head = captioner.model.decoder.lm_head
    head.register_forward_hook(
        lambda module, args, logits: seen["forward" if torch.is_grad_enabled() else "sample"].add(logits.dtype)
    )
    trainer.train()
    assert seen == {"sample": {torch.bfloat16}, "forward": {torch.bfloat16}}


def test_stored_features_leave_the_vision_model_alone(tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    dataset = picture_dataset(tmp_path, 6)
    store = write_features(captioner, dataset, tmp_path / "features")
    for file in tmp_path.glob("*.png"):
        file.unlink()
    trainer = scst_trainer(captioner, dataset, tmp_path / "run", Noted(), features=store, freeze=["vision"])
    rows = vision_rows(captioner)
    trainer.train()
    assert rows == []
    assert len(trainer.rewarder.functions[0].calls) == 2  # type: ignore[attr-defined]


def test_reference_of_the_kl_stays_and_shares_what_is_frozen(tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    before = copy.deepcopy(captioner.state_dict())
    dataset = picture_dataset(tmp_path, 6)
    options = {"freeze": ["vision"], "kl_beta": 0.1, "logging_strategy": "steps", "logging_steps": 1}
    trainer = scst_trainer(captioner, dataset, tmp_path / "run", Noted(), **options)
    trainer.train()
    reference = trainer.reference_captioner
    assert reference is not None
    assert reference.parts()["vision"][0] is captioner.parts()["vision"][0]
    for name, tensor in reference.state_dict().items():
        assert tensor.equal(before[name]), name
    changed = {name for name, tensor in captioner.state_dict().items() if not tensor.equal(before[name])}
    assert changed
    assert not any(name.startswith("vision.") for name in changed)
    first, second = (line["kl"] for line in trainer.state.log_history if "kl" in line)
    assert first == pytest.approx(0, abs=1e-9)
    assert second > 1e-3


def test_a_reward_gets_what_trl_gives(tmp_path: Path) -> None:
    steps: list[int] = []

    def trls(
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
        trainer_state: Any,
        log_extra: Any,
        log_metric: Any,
        **columns: Any,
    ) -> list[float]:
        assert len(prompts) == len(completions) == len(completion_ids)
        assert columns["is_clip"] == [False] * len(completions)
        steps.append(trainer_state.global_step)
        log_extra("words", [len(completion.split()) for completion in completions])
        log_metric("longest", max(len(ids) for ids in completion_ids))
        return [float(len(ids)) for ids in completion_ids]

    options = {"logging_strategy": "steps", "logging_steps": 1}
    dataset = picture_dataset(tmp_path, 3)
    trainer = scst_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", as_reward(trls), **options)
    trainer.train()
    assert steps == [0, 1]
    assert all(line["longest"] >= 1 for line in trainer.state.log_history if "reward" in line)


def test_an_async_reward_of_the_users_that_scores_some_captions(tmp_path: Path) -> None:
    """TRL allows both; what is not scored is left out of the reward's mean."""

    async def judged(completions: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        await asyncio.sleep(0)
        assert all(isinstance(completion, str) for completion in completions)  # as TRL's, where prompts are plain
        return [None if i % 2 else 1.0 for i in range(len(completions))]

    def always(completions: list[str], **columns: Any) -> list[float]:
        return [0.5] * len(completions)

    dataset, options = picture_dataset(tmp_path, 3), {"logging_strategy": "steps", "logging_steps": 1}
    options |= {"rewards": ["m:judged", "m:always"]}
    trainer = scst_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", as_reward(judged), **options)
    trainer.rewarder.functions.append(as_reward(always))
    trainer.rewarder.weights.append(1.0)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "reward" in line]
    assert [line["rewards/judged/mean"] for line in lines] == [1.0, 1.0]
    assert [line["reward"] for line in lines] == [1.0, 1.0]  # 1.5 and 0.5 by turns


def test_rewards_that_look_at_pictures_get_them(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def looks(completions: list[str], images: list[Any], **columns: Any) -> list[float]:
        seen.extend(image.size for image in images)
        return [0.0] * len(completions)

    trainer = scst_trainer(tiny_encoder_decoder(), picture_dataset(tmp_path, 3), tmp_path / "run", as_reward(looks))
    trainer.train()
    assert seen == [(16, 16)] * (2 * 3 * K)


@pytest.mark.parametrize("objective", ["plackett_luce", "dico"])
def test_objectives_over_the_order_of_rewards(objective: str, tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    at_start, by_hand = copy.deepcopy(captioner), copy.deepcopy(captioner)
    dataset = picture_dataset(tmp_path, 3)
    reward, recorder = Noted(), Recorder()
    options = {"objective": objective, "beta": 0.3, "dico_temperature": 2.0}
    scst_trainer(captioner, dataset, tmp_path / "run", reward, recorder, **options).train()

    call = reward.calls[1]
    by_hand.load_state_dict(recorder.weights[1])
    images = {row["image_id"]: open_image(row["image"]) for row in dataset}
    losses = []
    for b in range(3):
        name, own = call["image_id"][b * K], slice(b * K, (b + 1) * K)
        scores = [
            0.3
            * (
                log_probs_by_hand(by_hand, images[name], ids, TEMPERATURE).sum()
                - log_probs_by_hand(at_start, images[name], ids, TEMPERATURE).sum().detach()
            )
            for ids in call["ids"][own]
        ]
        values = [round(value, 6) for value in call["values"][own]]
        best = max(range(K), key=lambda k: values[k])
        if objective == "dico":
            others = [k for k in range(K) if k != best]
            gamma = torch.tensor([2.0 * (values[best] - values[k]) for k in others]).softmax(-1)
            margin = scores[best] - sum(g * scores[k] for g, k in zip(gamma, others, strict=True))
            losses.append(-torch.nn.functional.logsigmoid(margin))
            continue
        order = sorted(range(K), key=lambda k: -values[k])
        ranked = [k for place, k in enumerate(order) if not place or values[k] < values[order[place - 1]]]
        terms = [scores[k] - torch.stack([scores[j] for j in ranked[i:]]).logsumexp(0) for i, k in enumerate(ranked)]
        if len(terms) > 1:
            losses.append(-sum(terms))
    torch.stack(losses).mean().backward()
    expected = {name: parameter.grad for name, parameter in by_hand.named_parameters() if parameter.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0
    for name, gradient in recorder.gradients[1].items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5 * largest), name


@pytest.mark.slow  # kernels are made
def test_compiled_sampling_takes_the_same_steps(tmp_path: Path) -> None:
    weights = []
    for compiled in (False, True):
        captioner = tiny_encoder_decoder(dropout=0.0)
        favour_end(captioner)
        trainer = scst_trainer(
            captioner, picture_dataset(tmp_path, 3), tmp_path / "run", Noted(), compile_sampling=compiled
        )
        trainer.train()
        assert captioner.samples_compiled is compiled
        weights.append(captioner.state_dict())
    for name, tensor in weights[0].items():
        assert tensor.allclose(weights[1][name], atol=1e-5), name


def test_beams_are_not_compiled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compile_sampling is True; it must be false with baseline beam_mean"):
        scst_trainer(
            tiny_encoder_decoder(),
            picture_dataset(tmp_path, 3),
            tmp_path,
            Noted(),
            baseline="beam_mean",
            compile_sampling=True,
        )
