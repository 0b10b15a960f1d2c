"""What of a dual encoder trains, LoRA that changes nothing at first, and merged weights that give the same vectors."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rewards.dual_encoder import DualEncoder
from rewards.dual_encoder_loading import load_dual_encoder
from rewards.transformers_encoder import TransformersEncoder
from rlcap.training.dual_encoder_tuning import Lora, merged, tune
from rlcap.training.pac_model import PacModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "rewards"))

import test_dual_encoder as tiny
import tiny_clip

KINDS = ("clip", "siglip", "vision-text", "open_clip")
BOTH = ("vision", "text")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    made = {kind: tiny.save(kind, root / kind) for kind in KINDS[:3]}
    return {**made, "open_clip": tiny_clip.write_open_clip(root / "open_clip", tiny_clip.random_state())}


def vectors(encoder: DualEncoder) -> torch.Tensor:
    encoder.eval()
    with torch.no_grad():
        seen = encoder.encode_images(encoder.preprocess(tiny.pictures(2)))
        return torch.cat([seen, encoder.encode_texts(**encoder.tokenize(tiny.CAPTIONS))])


def trained(encoder: nn.Module) -> set[str]:
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def step(encoder: DualEncoder) -> None:
    """One step of gradient descent that moves all that trains."""
    seen, read = encoder(encoder.preprocess(tiny.pictures(2)), *encoder.tokenize(tiny.CAPTIONS[:2]).values())
    (encoder.logit_scale.exp() * (seen @ read.T).square().sum() + seen[:, 0].sum()).backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter -= 0.5 * torch.sign(parameter.grad) * parameter.grad.ne(0)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_matrices_alone_and_merges(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = load_dual_encoder(folders[kind])
    before, weights = vectors(encoder), {name: p.clone() for name, p in encoder.state_dict().items()}
    assert tune(encoder, "lora", BOTH, Lora(rank=2, alpha=1.0)) == {"vision", "text", "temperature"}
    torch.testing.assert_close(vectors(encoder), before, atol=1e-6, rtol=0)
    scale = next(name for name, p in encoder.named_parameters() if p is encoder.logit_scale)
    assert all("lora_" in name for name in trained(encoder) - {scale})
    step(encoder)
    step(encoder)  # matrices A move once B is not zero
    after = vectors(encoder)
    assert (after - before).abs().max() > 1e-3
    plain = merged(encoder)
    assert plain.state_dict().keys() == weights.keys()
    torch.testing.assert_close(vectors(plain), after, atol=1e-6, rtol=0)
    torch.testing.assert_close(vectors(encoder), after, atol=0, rtol=0)  # merging is of a copy
    plain.save_pretrained(tmp_path)
    torch.testing.assert_close(vectors(load_dual_encoder(tmp_path)), after, atol=1e-6, rtol=0)
    moved = {name for name, p in plain.state_dict().items() if not torch.equal(p, weights[name])}
    parts = {encoder.part_of(name) for name in moved - {scale}}
    assert parts == {"vision", "text"}
    if kind == "open_clip":  # the layers of the published files, and no others
        kinds = {name.split(".", 4)[-1] if "resblocks" in name else name for name in moved - {scale}}
        assert {name.removeprefix("resblocks.").lstrip("01.") for name in kinds} <= {
            *("model.visual.conv1.weight", "attn.in_proj_weight", "attn.out_proj.weight"),
            *("mlp.c_fc.weight", "mlp.c_proj.weight"),
        }
        assert "model.visual.conv1.weight" in moved


@pytest.mark.parametrize("kind", ["clip", "vision-text", "open_clip"])
def test_projections_alone(kind: str, folders: dict[str, Path]) -> None:
    encoder = load_dual_encoder(folders[kind])
    assert tune(encoder, "projections", BOTH, Lora()) == {"projections", "temperature"}
    assert len(trained(encoder)) == 3
    assert {encoder.part_of(name) for name in trained(encoder)} == {"projections", "temperature"}


def test_siglip_has_no_projections(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="no projections apart from its towers: give tune lora, or all"):
        tune(load_dual_encoder(folders["siglip"]), "projections", BOTH, Lora())


def test_one_tower_whole(folders: dict[str, Path]) -> None:
    encoder = load_dual_encoder(folders["clip"])
    assert tune(encoder, "all", ("text",), Lora()) == {"text", "projections", "temperature"}
    model = PacModel(encoder, ("text", "projections", "temperature")).train()
    assert model.encoder.model.text_model.training
    assert not model.encoder.model.vision_model.training
    assert not PacModel(encoder, ("text",), dropout_off=True).train().training


def test_batchnorm_stays_as_it_is(folders: dict[str, Path]) -> None:
    encoder = load_dual_encoder(folders["vision-text"])
    model = PacModel(encoder, tune(encoder, "all", BOTH, Lora())).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any("running_mean" in name for name in before)
    step(model.encoder)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_targets_by_name(folders: dict[str, Path]) -> None:
    encoder = load_dual_encoder(folders["clip"])
    tune(encoder, "lora", ("vision",), Lora(targets=["q_proj"]))
    assert len(trained(encoder)) == 2 * 2 + 1  # A and B of two layers, and the temperature
    with pytest.raises(ValueError, match=r"LoRA: the text of .* has no queries"):
        tune(load_dual_encoder(folders["clip"]), "lora", ("text",), Lora(targets=["queries"]))


def test_dropout_is_refused_where_lora_has_none(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"lora_dropout is 0.5, but 4 of .* nn.MultiheadAttention"):
        tune(load_dual_encoder(folders["open_clip"]), "lora", BOTH, Lora(dropout=0.5))
    tune(load_dual_encoder(folders["open_clip"]), "lora", BOTH, Lora(dropout=0.5, targets=["c_fc"]))
    tune(load_dual_encoder(folders["clip"]), "lora", BOTH, Lora(dropout=0.5))


def test_a_new_encoder_of_two_models(tmp_path: Path) -> None:
    import tiny_towers
    from transformers import AutoModel

    pictures, sentences = tiny_towers.towers(tmp_path, tiny.CAPTIONS)
    encoder = TransformersEncoder.from_towers(pictures, sentences, dimensions=8)
    stored = AutoModel.from_pretrained(pictures).state_dict()
    assert all(torch.equal(own, stored[name]) for name, own in encoder.model.vision_model.state_dict().items())
    poolers = {"model.text_model.pooler.dense.weight", "model.text_model.pooler.dense.bias"}
    assert encoder.new == {"model.visual_projection.weight", "model.text_projection.weight", *poolers}
    tuned = tune(encoder, "lora", ("vision",), Lora())
    assert tuned == {"vision", "text", "projections", "temperature"}  # the new pooler is in the text tower
    assert {*encoder.new, "model.logit_scale"} == {name for name in trained(encoder) if "lora_" not in name}
    with pytest.raises(ValueError, match="which does not take text alone"):
        TransformersEncoder.from_towers(pictures, pictures)
