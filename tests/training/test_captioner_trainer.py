"""What every trainer does: normalisation over micro-batches, frozen things that stay, parts, evaluation."""

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import Recorder, picture_dataset
from test_scst import Noted, scst_trainer
from tiny import CAPTIONERS, tiny_encoder_decoder, tiny_grid_transformer, vision_rows
from torch.nn.modules.batchnorm import _BatchNorm

from captioners import EncoderDecoder
from rewards.reward import as_reward
from rlcap.data.write_features import write_features
from rlcap.training.parts import parts_table
from rlcap.training.xe import XEArguments, XETrainer


def xe_trainer(
    captioner: Any, dataset: Dataset, output: Path, recorder: Recorder | None = None, **options: Any
) -> XETrainer:
    features, val = options.pop("features", None), options.pop("val", None)
    settings = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "max_grad_norm": 0.0}
    rest = {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    args = XEArguments(output_dir=str(output), **{"max_caption_length": 24, **settings, **rest, **options})
    callbacks = [recorder] if recorder else None
    return XETrainer(captioner, args, dataset, val, features=features, callbacks=callbacks)


@pytest.mark.parametrize("normalization", ["token", "sequence"])
def test_two_micro_batches_equal_one_batch(normalization: str, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 8)
    found = []
    for name, batch, micro_batches in (("one", 8, 1), ("two", 4, 2), ("uneven", 3, 3)):
        recorder = Recorder()
        trainer = xe_trainer(
            tiny_encoder_decoder(),
            dataset,
            tmp_path / name,
            recorder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=micro_batches,
            loss_normalization=normalization,
            dropout_off=True,
            max_steps=1,
        )
        trainer.train()
        (gradients,) = recorder.gradients
        found.append((trainer.state.log_history[0]["loss"], gradients))
    # By hand, over all captions at once.
    captioner = tiny_encoder_decoder()
    captions = captioner.tokenize(dataset["references"])
    visual = captioner.preprocess([image.convert("RGB") for image in map(_open, dataset["image"])])
    log_probs = captioner(visual, captions).log_probs
    lengths = captions.mask.sum(-1)
    assert len(set(lengths.flatten().tolist())) > 3
    if normalization == "token":
        expected = -log_probs.sum() / lengths.sum()
    else:
        expected = -(log_probs.sum(-1) / lengths.clamp(min=1)).sum() / (lengths > 0).sum()
    for loss, gradients in found:
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(gradient, found[0][1][name], rtol=1e-3, atol=1e-6), name


def _open(path: str) -> Any:
    from PIL import Image

    return Image.open(path)


@pytest.mark.parametrize("build", CAPTIONERS.values(), ids=CAPTIONERS)
@pytest.mark.parametrize("command", ["xe", "scst"])
def test_frozen_parts_and_batch_norm_stay(build: Any, command: str, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 6)
    for freeze in (["vision"], []):
        captioner = build()
        before = copy.deepcopy(captioner.state_dict())
        unused = captioner.unused_parameters()
        if command == "xe":
            xe_trainer(captioner, dataset, tmp_path / "xe", freeze=freeze, logging_strategy="no").train()
        else:
            scst_trainer(captioner, dataset, tmp_path / "scst", Noted(), freeze=freeze).train()
        statistics = {
            f"{name}.{buffer}"
            for name, module in captioner.named_modules()
            if isinstance(module, _BatchNorm)
            for buffer, _ in module.named_buffers()
        }
        vision = {id(p) for module in captioner.parts()["vision"] for p in module.parameters()}
        parameters = dict(captioner.named_parameters())
        stay = unused | statistics | {name for name, p in parameters.items() if freeze and id(p) in vision}
        moved = {name for name, tensor in captioner.state_dict().items() if not tensor.equal(before[name])}
        assert not moved & stay
        still = parameters.keys() - stay - moved
        # A key's bias shifts all scores of a query alike: its gradient is zero in exact arithmetic.
        assert all("key" in name or "k_proj" in name or "embed" in name for name in still), still


def test_frozen_vision_sees_each_picture_once_a_step(tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    dataset = picture_dataset(tmp_path, 8)
    trainer = xe_trainer(
        captioner, dataset, tmp_path / "run", freeze=["vision"], val=dataset, eval_strategy="steps", eval_steps=2
    )
    rows = vision_rows(captioner)
    trainer.train()
    assert rows == [4, 4, 8]  # two steps, and the evaluation in one batch


def test_stored_features_leave_the_vision_model_alone(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 8)
    with_pictures, with_features = (
        tiny_grid_transformer("resnet", dropout=0.0),
        tiny_grid_transformer("resnet", dropout=0.0),
    )
    store = write_features(with_features, dataset, tmp_path / "features")
    xe_trainer(with_pictures, dataset, tmp_path / "a", freeze=["vision"]).train()
    for file in tmp_path.glob("*.png"):
        file.unlink()
    trainer = xe_trainer(with_features, dataset, tmp_path / "b", freeze=["vision"], features=store)
    rows = vision_rows(with_features)
    trainer.train()
    assert rows == []
    for name, tensor in with_features.state_dict().items():  # features are stored in fp16
        assert torch.allclose(tensor.float(), with_pictures.state_dict()[name].float(), atol=5e-2), name


def test_learning_rates_of_the_parts_reach_the_optimiser(tmp_path: Path) -> None:
    rates = {"vision_learning_rate": 1e-5, "decoder_learning_rate": 3e-4}
    captioner = tiny_grid_transformer("vit")
    dataset = picture_dataset(tmp_path, 4)
    trainer = xe_trainer(captioner, dataset, tmp_path / "run", learning_rate=2e-3, weight_decay=0.1, **rates)
    optimizer = trainer.create_optimizer()
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    expected = {"vision": 1e-5, "connector": 2e-3, "decoder": 3e-4}
    for part, modules in captioner.parts().items():
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        assert {groups[id(p)]["lr"] for p in parameters} == {expected[part]}
        assert {groups[id(p)]["weight_decay"] for p in parameters if p.ndim == 1} == {0.0}
        assert 0.1 in {groups[id(p)]["weight_decay"] for p in parameters if p.ndim == 2}
    assert len(groups) == sum(p.requires_grad for p in captioner.parameters())
    rows = [line.split() for line in parts_table(captioner, trainer.args).splitlines()[1:4]]
    assert {row[0]: row[-1] for row in rows} == {"vision": "1e-05", "connector": "0.002", "decoder": "0.0003"}


class Forgetful(EncoderDecoder):
    """An adapter that does not name what its model never uses: ViT's pooler."""

    def unused_parameters(self) -> set[str]:
        return set()


def test_a_parameter_without_gradient_is_named(tmp_path: Path) -> None:
    tiny = tiny_encoder_decoder()
    captioner = Forgetful(tiny.model, tiny.codec.tokenizer, tiny.preprocessor.processor)
    trainer = xe_trainer(captioner, picture_dataset(tmp_path, 4), tmp_path / "run")
    with pytest.raises(ValueError, match=r"2 parameters should train and got no gradient: model\.encoder\.pooler"):
        trainer.train()


def test_captions_per_image_draws_other_references_each_step(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 2)
    trainer = xe_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", captions_per_image=1)
    rows = list(dataset)
    drawn = set()
    for step in range(30):
        trainer.state.global_step = step
        tokens = trainer.references_of(rows)
        assert tokens.ids.shape[:2] == (2, 1)
        drawn.add(tuple(text for of_image in trainer.captioner.decode(tokens) for text in of_image))
    assert len(drawn) == 2 * 3  # every reference of the one with every one of the other


def test_best_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 4)
    options = {"eval_strategy": "steps", "eval_steps": 1, "early_stopping_patience": 2, "early_stopping_threshold": 1e9}
    trainer = xe_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", val=dataset, max_steps=9, **options)
    trainer.train()
    assert trainer.state.global_step == 3  # the first is the best by definition, two more gain nothing
    assert trainer.best["step"] == 1
    import captioners

    best = captioners.load(tmp_path / "run" / "best").state_dict()
    now = trainer.captioner.state_dict()
    assert any(not tensor.equal(now[name]) for name, tensor in best.items())
    assert len(list((tmp_path / "run" / "captions").glob("eval-0*.json"))) == 3


def test_a_reward_that_hangs_at_an_evaluation_is_named(tmp_path: Path) -> None:
    def hangs(completions: list[str], **columns: Any) -> list[float]:
        time.sleep(60)
        return [0.0] * len(completions)

    dataset = picture_dataset(tmp_path, 3)
    args = XEArguments(
        output_dir=str(tmp_path / "run"),
        use_cpu=True,
        disable_tqdm=True,
        reward_timeout=0.3,
        max_caption_length=24,
        eval_max_new_tokens=4,
    )
    trainer = XETrainer(tiny_encoder_decoder(), args, dataset, dataset, eval_rewards=[as_reward(hangs)])
    with pytest.raises(RuntimeError, match=r"hangs: no answer within 0\.3 seconds"):
        trainer.evaluate()
