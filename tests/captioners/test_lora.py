"""LoRA on parts of every captioner: what trains, what an export is, what a checkpoint gives back."""

from pathlib import Path

import pytest
import torch
from tiny import ALL_CAPTIONERS, CAPTIONERS, CAPTIONS, pictures, tiny_blip, tiny_encoder_decoder, tiny_grid_transformer
from torch import Tensor

import captioners
from captioners import Captioner, LoraSettings

EVERY = pytest.mark.parametrize("build", ALL_CAPTIONERS.values(), ids=ALL_CAPTIONERS)
GROUPS = [CAPTIONS[:2], CAPTIONS[2:3]]


def adaptable(captioner: Captioner) -> tuple[str, ...]:
    """The parts that take LoRA: ResNet has no attention, and BLIP nothing between vision and decoder."""
    lacking = {"Blip": "connector"}.get(type(captioner).__name__)
    if type(captioner.parts()["vision"][0]).__name__ == "ResNetModel":
        lacking = "vision"
    return tuple(part for part in ("vision", "connector", "decoder") if part != lacking)


def log_probs(captioner: Captioner) -> Tensor:
    return captioner(captioner.preprocess(pictures(2)), captioner.tokenize(GROUPS)).log_probs


def trained(captioner: Captioner) -> Captioner:
    """Matrices as after some training: LoRA's B starts at zero."""
    with torch.no_grad():
        for parameter in captioners.lora.matrices(captioner).values():
            parameter.normal_(0, 0.1)
    return captioner


@EVERY
def test_lora_changes_nothing_at_first_and_trains_alone_in_its_parts(build) -> None:
    captioner = build()
    before = log_probs(captioner)
    parts = adaptable(captioner)
    captioner.add_lora(LoraSettings(parts[1:], rank=2, alpha=4.0))
    assert not captioner.training
    assert torch.allclose(log_probs(captioner), before, atol=1e-5)
    captioner.freeze(parts[0])
    captioner.train()
    captioner.dropout_off = True
    log_probs(trained(captioner)).sum().backward()
    matrices = {id(p) for p in captioners.lora.matrices(captioner).values()}
    for part, modules in captioner.parts().items():
        of_part = [p for module in modules for p in module.parameters()]
        assert any(id(p) in matrices for p in of_part) == (part in parts[1:])
        for parameter in of_part:
            trains = id(parameter) in matrices or part not in parts
            assert parameter.requires_grad == trains
            assert (parameter.grad is not None) == trains
            assert not trains or parameter.grad.any()


@EVERY
def test_an_export_is_merged_and_leaves_the_captioner_as_it_was(build, tmp_path: Path) -> None:
    captioner = build()
    plain = {name: tensor.shape for name, tensor in captioner.state_dict().items()}
    before = log_probs(captioner)
    captioner.add_lora(LoraSettings(adaptable(captioner), rank=2, alpha=4.0))
    trained(captioner)
    state = {name: tensor.clone() for name, tensor in captioner.state_dict().items()}
    captioner.save_pretrained(tmp_path, merge_lora=False)
    captioner.save_pretrained(tmp_path)
    exported = captioners.load(tmp_path)
    assert exported.lora is None
    assert {name: tensor.shape for name, tensor in exported.state_dict().items()} == plain
    said = log_probs(captioner)
    assert (said - before).abs().max() > 0.01
    assert torch.allclose(log_probs(exported), said, atol=2e-4)
    assert captioner.state_dict().keys() == state.keys()
    assert all(tensor.equal(state[name]) for name, tensor in captioner.state_dict().items())


@EVERY
def test_a_checkpoint_gives_back_the_same_bits(build, tmp_path: Path) -> None:
    captioner = build()
    captioner.add_lora(LoraSettings(("decoder",), rank=3, alpha=4.5, dropout=0.1))
    trained(captioner).save_pretrained(tmp_path, merge_lora=False)
    loaded = captioners.load(tmp_path)
    assert loaded.lora == captioner.lora
    assert loaded.state_dict().keys() == captioner.state_dict().keys()
    assert all(tensor.equal(captioner.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert log_probs(loaded).equal(log_probs(captioner))


@pytest.mark.parametrize("name", ["blip", "florence2", "blip2-t5", "vit-gpt2"])
def test_gradients_reach_lora_under_gradient_checkpointing(name: str) -> None:
    captioner = CAPTIONERS[name]()
    captioner.add_lora(LoraSettings(adaptable(captioner), rank=2, alpha=4.0))
    trained(captioner).dropout_off = True
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            captioner.gradient_checkpointing_enable()
        captioner.train()
        captioner.zero_grad()
        log_probs(captioner).sum().backward()
        found.append({n: p.grad.clone() for n, p in captioners.lora.matrices(captioner).items()})
    for name, gradient in found[0].items():
        assert gradient.any(), name
        assert torch.allclose(gradient, found[1][name], rtol=1e-3, atol=1e-4), name


def test_parts_without_layers_for_it_and_a_second_lora_are_refused() -> None:
    with pytest.raises(ValueError, match="the connector of this Blip has no layers for it; train the part whole"):
        tiny_blip().add_lora(LoraSettings(("connector",)))
    with pytest.raises(
        ValueError, match=r"the vision of this GridTransformer has no layers for it \(looked for q_proj"
    ):
        tiny_grid_transformer("resnet").add_lora(LoraSettings(("vision",)))
    captioner = tiny_encoder_decoder()
    with pytest.raises(ValueError, match="LoRA: no part named encoder; the parts are vision, connector, decoder"):
        captioner.add_lora(LoraSettings(("encoder",)))
    captioner.add_lora(LoraSettings(("decoder",)))
    with pytest.raises(ValueError, match="has LoRA already: begin with an export"):
        captioner.add_lora(LoraSettings(("vision",)))


@pytest.mark.parametrize(("name", "value"), [("parts", ()), ("rank", 0), ("alpha", 0.0), ("dropout", 1.0)])
def test_settings_name_the_value_they_refuse(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"LoRA: {name} is "):
        LoraSettings(**{"parts": ("decoder",), name: value})


def test_the_lora_of_another_model_is_refused(tmp_path: Path) -> None:
    for layers, folder in ((1, "one"), (2, "two")):
        captioner = tiny_encoder_decoder() if layers == 2 else tiny_encoder_decoder("bert")
        captioner.add_lora(LoraSettings(("decoder",), rank=layers))
        captioner.save_pretrained(tmp_path / folder, merge_lora=False)
    (tmp_path / "one" / "lora.safetensors").replace(tmp_path / "two" / "lora.safetensors")
    with pytest.raises(ValueError, match="was not made for this model"):
        captioners.load(tmp_path / "two")
