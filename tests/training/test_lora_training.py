"""Training by LoRA: what moves, going on to the same bits, and an export that plain transformers loads."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Recorder, picture_dataset
from test_captioner_trainer import xe_trainer
from test_scst import Noted, scst_trainer
from tiny import CAPTIONS, pictures, tiny_blip, tiny_encoder_decoder, tiny_florence2
from transformers import BlipForConditionalGeneration

import captioners
from rlcap.training.parts import parts_table

LORA = {"lora_parts": ["decoder"], "lora_rank": 2, "lora_alpha": 8.0, "lora_dropout": 0.1}


def blip_trainer(dataset: Any, output: Path) -> Any:
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    return xe_trainer(tiny_blip(), dataset, output, freeze=["vision"], **LORA, **saving)


def test_a_run_with_lora_goes_on_to_the_same_bits_and_exports_a_plain_model(tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 6)
    whole = blip_trainer(dataset, tmp_path / "whole")
    before = {name: tensor.clone() for name, tensor in whole.captioner.state_dict().items()}
    assert "(LoRA of rank 2)" in parts_table(whole.captioner, whole.args).splitlines()[3]
    whole.train()
    state = whole.captioner.state_dict()
    moved = {name for name, tensor in state.items() if not tensor.equal(before[name])}
    assert moved
    assert all("lora_" in name for name in moved)

    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    resumed = blip_trainer(dataset, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "resumed" / "checkpoint-2"))
    assert resumed.captioner.state_dict().keys() == state.keys()
    for name, tensor in resumed.captioner.state_dict().items():
        assert tensor.equal(state[name]), name

    whole.save_captioner(tmp_path / "final")
    exported = captioners.load(tmp_path / "final")
    assert exported.lora is None
    captioner = whole.captioner.eval()
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize([CAPTIONS[:2]] * 2)
    assert torch.allclose(exported(visual, captions).log_probs, captioner(visual, captions).log_probs, atol=1e-4)
    plain = BlipForConditionalGeneration.from_pretrained(tmp_path / "final").state_dict()
    assert all(plain[name].equal(tensor) for name, tensor in exported.model.state_dict().items())


def test_scst_with_kl_compares_with_the_captioner_without_its_lora(tmp_path: Path) -> None:
    options = {**LORA, "freeze": ["vision"], "kl_beta": 0.1, "lora_dropout": 0.0}
    trainer = scst_trainer(tiny_encoder_decoder(), picture_dataset(tmp_path, 6), tmp_path / "run", Noted(), **options)
    captioner, reference = trainer.captioner, trainer.reference_captioner
    before = tiny_encoder_decoder()
    trainer.train()
    captioner.eval()
    visual, captions = before.preprocess(pictures(2)), before.tokenize([CAPTIONS[:2]] * 2)
    expected = before(visual, captions).log_probs
    assert reference(visual, captions).log_probs.allclose(expected, atol=1e-5)
    assert not captioner(visual, captions).log_probs.allclose(expected, atol=1e-4)
    shared = {id(p) for p in captioner.parameters()} & {id(p) for p in reference.parameters()}
    assert len(shared) > 50


def test_scst_trains_the_language_encoder_that_has_read_the_picture(tmp_path: Path) -> None:
    recorder = Recorder()
    options = {"freeze": ["vision", "connector"], "dropout_off": False, "max_steps": 1}
    dataset = picture_dataset(tmp_path, 3)
    scst_trainer(tiny_florence2(), dataset, tmp_path / "run", Noted(), recorder, **options).train()
    (gradients,) = recorder.gradients
    assert gradients["model.model.language_model.encoder.layers.0.fc1.weight"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_parts": ["encoder"]}, "lora_parts is 'encoder'; it must be among vision, connector, decoder"),
        ({"lora_parts": ["vision"], "freeze": ["vision"]}, "lora_parts is 'vision'; it must be a part that is not in"),
        ({"lora_rank": 0}, "lora_rank is 0; it must be 1 or more"),
        ({"lora_alpha": 0.0}, "lora_alpha is 0.0; it must be above 0"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0; it must be 0 or more and below 1"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        xe_trainer(tiny_blip(), picture_dataset(tmp_path, 2), tmp_path / "run", **options)
