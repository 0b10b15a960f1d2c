"""The reference of ranking-DPO in its three forms: all the same numbers, and each refused where it would be wrong."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from chains import chain_dataset, ranking_trainer
from peft.utils.other import ModulesToSaveWrapper
from small import Recorder
from tiny import CAPTIONS, pictures, tiny_encoder_decoder, tiny_qwen2_vl
from transformers import TrainerCallback

from captioners import LoraSettings
from rlcap.training.reference import AdaptersOff, Stored

LORA = {"freeze": ["vision", "connector"], "lora_parts": ["decoder"], "lora_rank": 2}


def logged(trainer: Any) -> list[dict[str, float]]:
    lines = [{k: v for k, v in line.items() if "time/" not in k} for line in trainer.state.log_history]
    return [line for line in lines if "train_loss" not in line and len(line) > 2]


@pytest.mark.parametrize("build", [tiny_encoder_decoder, tiny_qwen2_vl])
def test_all_three_train_alike(build: Any, tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 6)
    found = []
    for reference in ("frozen_copy", "adapters_off", "stored"):
        options = {**LORA, "val": dataset, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4}
        trainer = ranking_trainer(
            build(), dataset, tmp_path / reference, reference=reference, learning_rate=1e-2, **options
        )
        trainer.train()
        found.append((logged(trainer), trainer.captioner.state_dict()))
    assert found[0][0][-1]["eval/kl_lower_bound"] > 1e-4
    for lines, weights in found[1:]:
        for line, expected in zip(lines, found[0][0], strict=True):
            assert line == pytest.approx(expected, abs=1e-4)
        for name, tensor in weights.items():
            assert tensor.allclose(found[0][1][name], atol=1e-5), name


def test_adapters_off_needs_that_nothing_else_trains(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 2)
    options = {"reference": "adapters_off", **LORA, "freeze": ["vision"]}
    with pytest.raises(
        ValueError, match=r"2 parameters outside of adapters train: model\.enc_to_dec_proj.*frozen_copy"
    ):
        ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "a", **options)
    frozen = tiny_encoder_decoder().requires_grad_(False)
    with pytest.raises(ValueError, match="this captioner has no adapters"):
        AdaptersOff(frozen)


def test_adapters_off_takes_modules_to_save() -> None:
    captioner = tiny_encoder_decoder()
    captioner.freeze("vision", "connector")
    captioner.add_lora(LoraSettings(("decoder",)))
    before = copy.deepcopy(captioner).eval()
    saved = ModulesToSaveWrapper(captioner.model.enc_to_dec_proj, "default")
    saved.enable_adapters(True)
    captioner.model.enc_to_dec_proj = saved
    reference = AdaptersOff(captioner)
    with torch.no_grad():
        for parameter in captioner.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    trained = {name for name, p in captioner.named_parameters() if p.requires_grad}
    assert any("modules_to_save" in name for name in trained)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize([CAPTIONS[:3]] * 2)
    expected = before(visual, captions).log_probs
    assert reference.log_probs([], visual, captions).equal(expected)
    assert not captioner(visual, captions).log_probs.allclose(expected, atol=1e-2)
    assert {name for name, p in captioner.named_parameters() if p.requires_grad} == trained


def test_stored_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = chain_dataset(tmp_path, 6)
    shared: dict[str, Any] = {"reference": "stored", "reference_dir": str(tmp_path / "shared"), "max_steps": 1}
    ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "a", **shared).train()
    (folder,) = (tmp_path / "shared").iterdir()
    assert (folder / "header.json").is_file()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    trainer = ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "b", **shared, beta=0.7)
    monkeypatch.setattr(trainer, "_score", None)  # nothing is to be computed
    trainer.train()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    for name, options, rows in (
        ("other weights", {}, dataset),
        ("other settings", {"max_caption_length": 20}, dataset),
        ("other chains", {}, dataset.select(range(5))),
    ):
        captioner = tiny_encoder_decoder(seed=1 if name == "other weights" else 0)
        ranking_trainer(captioner, rows, tmp_path / name, **{**shared, **options}).train()
    assert len(list((tmp_path / "shared").iterdir())) == 4


def test_no_second_captioner_is_in_memory_with_stored(tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder()
    trainer = ranking_trainer(captioner, chain_dataset(tmp_path, 3), tmp_path / "run", reference="stored", max_steps=1)
    trainer.train()
    values = vars(trainer._reference).values()
    assert not any(isinstance(value, torch.nn.Module) for value in values)


class Appearing(TrainerCallback):
    """A picture that cannot be read until the training begins."""

    def __init__(self, picture: Path) -> None:
        self.picture, self.aside = picture, picture.rename(picture.with_suffix(".aside"))

    def on_train_begin(self, *args: Any, **options: Any) -> None:
        if self.aside.exists():
            self.aside.rename(self.picture)


def test_a_chain_without_a_reference_is_left_out_until_the_next_start_stores_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = chain_dataset(tmp_path, 3)
    shared: dict[str, Any] = {"reference": "stored", "reference_dir": str(tmp_path / "shared")}
    two = Recorder()
    ranking_trainer(tiny_encoder_decoder(), dataset.select([0, 2]), tmp_path / "two", two, **shared).train()

    recorder, options = Recorder(), {"save_strategy": "steps", "save_steps": 2, "max_steps": 2, **shared}
    trainer = ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", recorder, **options)
    trainer.add_callback(Appearing(tmp_path / "1.png"))
    trainer.train()
    assert 'the picture of "1": could not be decoded when the reference was stored' in capsys.readouterr().err
    for ours, theirs in zip(recorder.gradients, two.gradients, strict=True):
        assert all(ours[name].allclose(theirs[name], atol=1e-6) for name in theirs)
    trainer.train()  # the captioner is another one by now: what has no reference is still left out

    resumed = ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", **{**options, "max_steps": 4})
    resumed.train(resume_from_checkpoint=True)
    other = ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "other", reference="stored")
    other.train()
    found, expected = (run._reference._chains[1] for run in (resumed, other))  # both of the captioner of the start
    assert all(a.allclose(b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_the_reference_is_computed_on_the_accelerators_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner, done = tiny_encoder_decoder(), []
    options = {
        "reference": "stored",
        "bf16_full_eval": True,
    }  # with which transformers leaves the captioner where it is
    trainer = ranking_trainer(captioner, chain_dataset(tmp_path, 3), tmp_path / "run", **options)
    elsewhere = torch.device("cpu", 0)
    monkeypatch.setattr(type(trainer.accelerator), "device", elsewhere)
    monkeypatch.setattr(captioner, "to", lambda device: done.append(device) or captioner)
    captioner.register_forward_pre_hook(lambda *_: done.append("scored"))
    trainer.train()
    assert done[:3] == [elsewhere, "scored", torch.device("cpu")]


def test_what_is_wrong_with_a_stored_chain_is_said() -> None:
    captions = tiny_encoder_decoder().tokenize([CAPTIONS[:2]])
    row = {"image_id": "7", "position": 0}
    with pytest.raises(ValueError, match='no reference is stored of a chain of "7": could not be decoded'):
        Stored([None]).log_probs([row], {}, captions)
    with pytest.raises(ValueError, match='the reference of a chain of "7" is of other captions'):
        Stored([[torch.zeros(2), torch.zeros(3)]]).log_probs([row], {}, captions)


def test_unreadable_chains_of_an_earlier_start_are_few_among_all(tmp_path: Path) -> None:
    dataset = chain_dataset(tmp_path, 12)
    for index in (3, 4):
        (tmp_path / f"{index}.png").unlink()
    for _ in range(2):  # the second start has these two alone to try
        options = {"reference": "stored", "max_bad_images": 0.2, "max_steps": 1}
        ranking_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", **options).train()
