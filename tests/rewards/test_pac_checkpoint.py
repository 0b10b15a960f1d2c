"""Files of the published layout, and what does not match its backbone."""

import json
import logging
from pathlib import Path

import open_clip
import pytest
import tiny_clip
import torch

from rewards.dual_encoder_loading import load_dual_encoder
from rewards.pac_checkpoint import fold_lora, load_plain, read_checkpoint

BLOCK = "transformer.resblocks.0"


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    return tiny_clip.random_state()


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("merged", [True, False])
def test_it_finds_out_whether_mlp_weights_are_merged(plain, merged: bool, with_base: bool, caplog) -> None:
    caplog.set_level(logging.INFO)
    found = fold_lora(tiny_clip.with_lora(plain, merged=merged), "FILE", base=plain if with_base else None)
    assert found.describe() == {"lora_rank": 4, "mlp_lora": "merged" if merged else "unmerged"}
    (told,) = caplog.records
    assert told.levelno == (logging.INFO if merged else logging.WARNING)
    assert told.getMessage().startswith("FILE: its MLP weights ")


def test_attention_and_convolution_are_merged_and_mlps_taken_as_they_stand(plain) -> None:
    """The published scale is alpha / r = 1 / 4; MLP weights of the file are those of the model in either case."""
    state = tiny_clip.with_lora(plain, merged=False)
    folded = fold_lora(state, "FILE").state_dict
    assert folded.keys() == plain.keys()
    for name in ("attn.in_proj_weight", "attn.out_proj.weight"):
        lora = name.replace("in_proj_weight", "in_proj_weight_lora_").replace(".weight", ".lora_")
        update = 0.25 * state[f"{BLOCK}.{lora}B"] @ state[f"{BLOCK}.{lora}A"]
        torch.testing.assert_close(folded[f"{BLOCK}.{name}"], plain[f"{BLOCK}.{name}"] + update)
    torch.testing.assert_close(folded[f"{BLOCK}.mlp.c_fc.weight"], plain[f"{BLOCK}.mlp.c_fc.weight"], rtol=0, atol=0)
    assert not torch.equal(folded["visual.conv1.weight"], plain["visual.conv1.weight"])


def test_what_cannot_be_told_is_said_to_be_undetermined(plain) -> None:
    in_half = {key: value.half() for key, value in tiny_clip.with_lora(plain, merged=True).items()}
    assert fold_lora(in_half, "FILE").mlp == "undetermined"
    assert fold_lora(in_half, "FILE", base=plain).mlp == "merged"
    other = {key: value * 1.1 for key, value in plain.items()}
    assert fold_lora(tiny_clip.with_lora(other, merged=False), "FILE").mlp == "undetermined"
    with pytest.raises(ValueError, match=r"FILE: the MLP weights are neither .* transformer\.resblocks\.0\.mlp"):
        fold_lora(tiny_clip.with_lora(other, merged=False), "FILE", base=plain)


def test_lora_keys_that_make_no_sense_are_named(plain) -> None:
    state = tiny_clip.with_lora(plain, merged=True)
    with pytest.raises(ValueError, match=r"PAC-S\+\+ has none in: visual\.ln_pre\.lora_A"):
        fold_lora({**state, "visual.ln_pre.lora_A": torch.zeros(4, 4)}, "FILE")
    del state[f"{BLOCK}.attn.in_proj_weight_lora_B"]
    with pytest.raises(ValueError, match=r"in_proj_weight_lora_A without .*in_proj_weight_lora_B"):
        fold_lora(state, "FILE")
    state[f"{BLOCK}.attn.in_proj_weight_lora_B"] = torch.zeros(7, 4)
    with pytest.raises(ValueError, match=r"do not fit transformer\.resblocks\.0\.attn\.in_proj_weight"):
        fold_lora(state, "FILE")


def test_a_state_that_does_not_match_is_refused_by_its_keys(plain, tmp_path: Path) -> None:
    changed = {key: value for key, value in plain.items() if not key.startswith("ln_final")}
    changed |= {"extra.weight": torch.zeros(1), "visual.proj": torch.zeros(3, 3)}
    torch.save({"state_dict": changed}, tmp_path / "changed.pth")
    directory = tiny_clip.write_open_clip(tmp_path / "clip", plain)
    with pytest.raises(ValueError) as raised:
        load_dual_encoder(directory, checkpoint=tmp_path / "changed.pth")
    message = str(raised.value)
    assert "it lacks 2: ln_final.bias, ln_final.weight" in message
    assert "has not, 1: extra.weight" in message
    assert "in other shapes 1: visual.proj (3, 3), not (64, 16)" in message


def test_loading_leaves_nothing_random(plain) -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="FILE does not match its backbone; it lacks 1: bias"):
        load_plain(model, {"weight": torch.zeros(2, 2)}, "FILE")


@pytest.mark.parametrize("content", [{"state_dict": 3}, {}, [1], {"epoch": 3}])
def test_what_is_no_checkpoint(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_checkpoint(tmp_path / "file.pth")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(b"<html>403 Forbidden</html>")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "file.pth")
    with pytest.raises(ValueError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.pth")


def test_lora_on_an_architecture_without_quick_gelu_is_refused(plain, tmp_path: Path, monkeypatch) -> None:
    torch.save({"state_dict": tiny_clip.with_lora(plain, merged=True)}, tmp_path / "file.pth")
    monkeypatch.setitem(tiny_clip.CONFIG, "quick_gelu", False)
    directory = tiny_clip.write_open_clip(tmp_path / "clip", plain)
    with pytest.raises(ValueError, match="QuickGELU"):
        load_dual_encoder(directory, checkpoint=tmp_path / "file.pth")


def architecture(folder: Path, name: str, **changed: object) -> str:
    """A name that open_clip knows from now on, of the tiny CLIP."""
    (folder / f"{name}.json").write_text(json.dumps({**tiny_clip.CONFIG, **changed}))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


def test_tuned_projections_of_openais_clip_need_quick_gelu_too(plain, tmp_path: Path, caplog) -> None:
    name = architecture(tmp_path, "tiny-projections", quick_gelu=False)
    quick = architecture(tmp_path, "tiny-projections-quickgelu")
    tuned = {**plain, "visual.proj": plain["visual.proj"] * 1.001, "text_projection": plain["text_projection"] / 3}
    file = tmp_path / "file.pth"
    torch.save({"state_dict": tuned}, file)
    with pytest.raises(ValueError, match=f"its MLPs are float16 numbers.*give the backbone {quick}$"):
        load_dual_encoder(name, checkpoint=file)
    assert load_dual_encoder(quick, checkpoint=file).describe()["checkpoint"] == str(file)
    torch.save({key: value.half() for key, value in tuned.items()}, file)
    load_dual_encoder(name, checkpoint=file)
    assert "cannot be told whether it is OpenAI's CLIP" in caplog.text
    torch.save({key: value * 1.1 for key, value in tuned.items()}, file)  # weights that never were float16 numbers
    caplog.clear()
    load_dual_encoder(name, checkpoint=file)
    assert not caplog.records


def test_a_base_without_quick_gelu_may_be_tuned(plain, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(tiny_clip.CONFIG, "quick_gelu", False)
    directory = tiny_clip.write_open_clip(tmp_path / "clip", plain)
    torch.save({**plain, "visual.proj": plain["visual.proj"] / 3}, tmp_path / "file.pth")
    load_dual_encoder(directory, checkpoint=tmp_path / "file.pth")
    torch.save({key: (value * 1.1).half().float() for key, value in plain.items()}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match='with "quick_gelu": true in its configuration'):
        load_dual_encoder(directory, checkpoint=tmp_path / "file.pth")
