"""Several updates on the same samples: which pictures come back, what is sampled, and the ratio written out by hand."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import Recorder, picture_dataset
from test_scst import TEMPERATURE, K, Noted, advantages_by_hand, log_probs_by_hand, scst_trainer
from tiny import favour_end, tiny_encoder_decoder, tiny_grid_transformer, vision_rows

from captioners import EncoderDecoder
from rlcap.data.images import open_image
from rlcap.training.repeated_chunks import RepeatedChunks


def test_chunks_come_back_and_every_epoch_has_its_own_order() -> None:
    sampler = RepeatedChunks(rows=11, chunk=4, times=3, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    first, second, again = orders
    assert first == again != second
    assert len(first) == len(sampler) == 2 * 4 * 3
    chunks = [first[start : start + 4] for start in range(0, len(first), 4)]
    assert chunks == [chunks[0]] * 3 + [chunks[3]] * 3
    assert len({*chunks[0], *chunks[3]}) == 8


def test_too_few_rows_for_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match="a step takes 4"):
        RepeatedChunks(rows=3, chunk=4, times=2, seed=0)


@pytest.mark.parametrize("changed", [{"epsilon_high": 0.02}, {"loss_normalization": "sequence"}], ids=str)
def test_gradient_of_the_second_update_by_hand(changed: dict[str, Any], tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    dataset = picture_dataset(tmp_path, 3)
    reward, recorder = Noted(), Recorder()
    options = {"num_iterations": 2, "epsilon": 0.01, "learning_rate": 2e-4, **changed}
    by_hand = copy.deepcopy(captioner)
    scst_trainer(captioner, dataset, tmp_path / "run", reward, recorder, **options).train()
    (call,) = reward.calls

    sampling = _log_probs(by_hand, recorder.weights[0], call, dataset)
    by_hand.load_state_dict(recorder.weights[1])
    policy = _log_probs(by_hand, recorder.weights[1], call, dataset)
    advantage = advantages_by_hand(torch.tensor(call["values"]).view(3, K), "leave_one_out", False).flatten()
    losses, held = [], 0
    for caption, (new, old) in enumerate(zip(policy, sampling, strict=True)):
        a, ratio = advantage[caption], (new - old.detach()).exp()
        clipped = ratio.clamp(1 - 0.01, 1 + options.get("epsilon_high", 0.01))
        losses.append(-torch.minimum(a * ratio, a * clipped))
        held += int((a * clipped < a * ratio).sum())
    assert 0 < held < sum(map(len, losses))  # some tokens have moved enough, others have not
    per_caption = options.get("loss_normalization") == "sequence"
    loss = torch.stack([each.mean() for each in losses]).mean() if per_caption else torch.cat(losses).mean()
    by_hand.zero_grad()
    loss.backward()
    expected = {name: parameter.grad for name, parameter in by_hand.named_parameters() if parameter.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in recorder.gradients[1].items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-4 * largest), name


def _log_probs(
    captioner: EncoderDecoder, weights: dict[str, torch.Tensor], call: dict[str, Any], dataset: Dataset
) -> list[torch.Tensor]:
    captioner.load_state_dict(weights)
    images = {row["image_id"]: open_image(row["image"]) for row in dataset}
    pairs = zip(call["image_id"], call["ids"], strict=True)
    return [log_probs_by_hand(captioner, images[name], ids, TEMPERATURE) for name, ids in pairs]


@pytest.mark.parametrize("objective", ["policy_gradient", "plackett_luce"])
def test_samples_and_encodings_serve_all_updates(objective: str, tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("vit")
    dataset = picture_dataset(tmp_path, 7)
    reward = Noted()
    options = {"freeze": ["vision", "connector"], "objective": objective, "num_iterations": 3, "max_steps": 6}
    options |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "xe_weight": 0.1}
    options |= {"logging_strategy": "steps", "logging_steps": 1}
    trainer = scst_trainer(captioner, dataset, tmp_path / "run", reward, **options)
    rows = vision_rows(captioner)
    trainer.train()
    # One step takes four of seven pictures, in two micro-batches; the three updates on them are a whole epoch.
    assert rows == [2, 2, 2, 2]
    assert [len(set(call["image_id"])) for call in reward.calls] == [2, 2, 2, 2]
    epochs = [{name for call in reward.calls[start : start + 2] for name in call["image_id"]} for start in (0, 2)]
    assert [len(epoch) for epoch in epochs] == [4, 4]
    logged = [line for line in trainer.state.log_history if "loss" in line]
    assert ["reward" in line for line in logged] == [True, False, False] * 2
    assert all("repetition/rep_1" in line and "xe_loss" in line for line in logged)
    if objective == "policy_gradient":
        assert logged[0]["clip_ratio"] == 0


@pytest.mark.parametrize("key", ["save_steps", "max_steps"])
def test_checkpoints_wait_for_all_updates(key: str, tmp_path: Path) -> None:
    options = {"num_iterations": 2, "save_strategy": "steps", "save_steps": 4, "max_steps": 6, key: 3}
    with pytest.raises(ValueError, match=f"{key} is 3.* a multiple of num_iterations"):
        scst_trainer(tiny_encoder_decoder(), picture_dataset(tmp_path, 3), tmp_path / "run", Noted(), **options)
