"""MULTI-TAP's model and reward: which token counts, what a directory holds, what is refused."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import lvlms
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

import rewards
from rewards.multi_tap_model import RatingModel, RatingSettings, last_real_token
from rewards.multi_tap_objectives import Objectives

CAPTIONS = ["a red circle", "the blue square in the top left corner of the picture"]
PICTURES = [Image.new("RGB", (16, 16), "red"), Image.new("RGB", (24, 16), "blue")]


@pytest.fixture(scope="module", params=lvlms.BUILDERS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lvlms.BUILDERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both stages; two objectives that are known linear maps."""
    directory = tmp_path_factory.mktemp("trained")
    model = RatingModel.create(
        lvlms.llava(tmp_path_factory.mktemp("base")), settings=RatingSettings(lowest=1, highest=5, base_model="tiny")
    )
    model.save(directory)
    weight = np.random.default_rng(0).normal(size=(2, 32))
    Objectives(("colour", "how it reads"), weight, np.array([0.5, -1.0]), (1.0, 10.0)).save(directory)
    return directory


def without_lora(model: RatingModel) -> RatingModel:
    """A copy whose LoRA adds nothing."""
    copied = deepcopy(model)
    for name, parameter in copied.named_parameters():
        if "lora_B" in name:
            parameter.zero_()
    return copied


def test_last_real_token_whatever_the_side() -> None:
    hidden = torch.arange(12.0).view(3, 4, 1)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    assert last_real_token(hidden, mask).flatten().tolist() == [1.0, 7.0, 11.0]
    with pytest.raises(ValueError, match="no real token"):
        last_real_token(hidden, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="behind the tokenizer's back"):
        last_real_token(hidden, torch.ones(3, 2))


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_no_embedding(base: Path, side: str) -> None:
    model = RatingModel.create(base).eval()
    pictures = [[picture] for picture in PICTURES]
    alone = [model.embed(**model.prompt([own], [caption])) for own, caption in zip(pictures, CAPTIONS, strict=True)]
    inputs = model.prompt(pictures, CAPTIONS, padding_side=side)
    assert (inputs["attention_mask"] == 0).any()
    torch.testing.assert_close(model.embed(**inputs), torch.cat(alone), atol=1e-5, rtol=1e-4)
    # And it is the state that the whole model, with its vocabulary, reports of the last token of the unpadded text.
    whole = model.lvlm(**model.prompt(pictures[:1], CAPTIONS[:1]), output_hidden_states=True)
    torch.testing.assert_close(alone[0], whole.hidden_states[-1][:, -1])


@torch.no_grad()
def test_pictures_and_captions_count(base: Path) -> None:
    model = RatingModel.create(base).eval()
    red, blue = PICTURES
    embedded = model.embed(
        **model.prompt([[red], [blue], [red], [red, blue]], [*CAPTIONS[:1] * 2, CAPTIONS[1], CAPTIONS[0]])
    )
    distances = torch.cdist(embedded, embedded)
    assert distances[~torch.eye(4, dtype=torch.bool)].min() > 1e-3


def test_too_long_a_caption_is_named(base: Path) -> None:
    model = RatingModel.create(base)
    assert model.prompt.context == model.lvlm.config.get_text_config().max_position_embeddings
    with pytest.raises(ValueError, match=r"'a red circle a red.* tokens, and the model reads at most"):
        model.prompt([PICTURES[:1]], ["a red circle " * 40])


@torch.no_grad()
def test_a_long_caption_is_read_to_its_last_word(tmp_path: Path) -> None:
    model = RatingModel.create(lvlms.llava(tmp_path / "base", positions=512)).eval()
    words = ["a red circle in the top left corner of the picture"] * 36
    captions = [" ".join([*words, last]) for last in ("red", "blue")]
    inputs = model.prompt([PICTURES[:1]] * 3, [*captions, CAPTIONS[0]])  # the short one is padded
    assert inputs["attention_mask"].sum(1).min() < 30
    assert inputs["attention_mask"].sum(1).max() > 36 * 11
    alone = model.lvlm(**model.prompt([PICTURES[:1]], captions[:1]), output_hidden_states=True)
    torch.testing.assert_close(model.embed(**inputs)[0], alone.hidden_states[-1][0, -1], atol=1e-5, rtol=1e-4)
    model.save(tmp_path / "saved")
    red, blue = rewards.load("multi-tap", path=tmp_path / "saved")(captions, images=PICTURES[:1] * 2)
    assert red == pytest.approx(model(**inputs)[0].item(), abs=1e-5)
    assert abs(red - blue) > 1e-4


@torch.no_grad()
def test_a_directory_scores_as_the_model_did(base: Path, tmp_path: Path) -> None:
    model = RatingModel.create(base, settings=RatingSettings(prompt="a picture of", base_model="tiny")).eval()
    rated = model(**model.prompt([[picture] for picture in PICTURES], CAPTIONS))
    model.save(tmp_path)
    reward = rewards.load("multi-tap", path=tmp_path)
    assert reward(CAPTIONS, images=PICTURES) == pytest.approx(rated.tolist(), abs=1e-6)
    assert reward.describe()["prompt"] == "a picture of"


def test_objectives_are_options_and_come_from_one_pass(trained: Path) -> None:
    overall = rewards.load("multi-tap", path=trained)
    every = overall.scores(CAPTIONS, images=PICTURES)
    assert list(every) == ["overall", "colour", "how it reads"]
    assert all(0 < value < 1 for value in every["overall"])
    for name, values in every.items():
        assert rewards.load("multi-tap", path=trained, objective=name)(CAPTIONS, images=PICTURES) == values
    with torch.no_grad():
        model = overall.model
        embedded = model.embed(**model.prompt([[picture] for picture in PICTURES], CAPTIONS)).double().numpy()
    stored = Objectives.load(trained)
    assert stored is not None
    expected = embedded @ stored.weight[1] - 1.0
    assert every["how it reads"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert overall([], images=[]) == []


def test_the_record_tells_one_fit_of_stage_two_from_another(trained: Path, tmp_path: Path) -> None:
    described = rewards.load("multi-tap", path=trained).describe()
    assert {"torch", "transformers", "pillow"} <= set(described)
    stored = Objectives.load(trained)
    assert stored is not None
    assert stored.fingerprint() == described["objectives"]
    for other in (
        replace(stored, weight=stored.weight + 1e-6),
        replace(stored, intercept=stored.intercept + 1e-6),
        replace(stored, names=("colour", "how it reads aloud")),
    ):
        assert other.fingerprint() != described["objectives"]
        other.save(tmp_path)  # with the same penalties
        again = Objectives.load(tmp_path)
        assert again is not None
        assert again.fingerprint() == other.fingerprint()


def test_each_pair_of_picture_and_caption_is_rated_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = rewards.load("multi-tap", path=trained, batch_size=2)
    seen: list[int] = []
    embed = RatingModel.embed
    monkeypatch.setattr(
        RatingModel, "embed", lambda self, **inputs: (seen.append(len(inputs["input_ids"])), embed(self, **inputs))[1]
    )
    captions = [*CAPTIONS, CAPTIONS[0], CAPTIONS[0]]
    values = reward(captions, images=[PICTURES[0]] * 3 + PICTURES[1:], image_id=["r", "r", "r", "b"])
    assert sum(seen) == 3
    assert values[0] == values[2] != values[3]
    conversational = [[{"role": "assistant", "content": caption}] for caption in captions[:2]]
    assert reward(conversational, images=PICTURES[:1] * 2) == pytest.approx(values[:2])


def test_a_clip_is_its_frames(trained: Path) -> None:
    reward = rewards.load("multi-tap", path=trained)
    forth, back = reward(CAPTIONS[:1] * 2, images=[PICTURES, PICTURES[::-1]])
    assert forth != pytest.approx(back, abs=1e-6)
    with pytest.raises(ValueError, match=r"row 0 of the column 'images' is 'x\.png'"):
        reward(CAPTIONS[:1], images=["x.png"])


def test_what_cannot_be_loaded(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"multi_tap.json is missing"):
        rewards.load("multi-tap", path=tmp_path)
    with pytest.raises(ValueError, match="no objective 'shape'; there are overall, colour, how it reads"):
        rewards.load("multi-tap", path=trained, objective="shape")
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        rewards.load("multi-tap", path=trained, dtype="int8")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in trained.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    save_file({"weight": torch.zeros(1, 8), "bias": torch.zeros(1)}, broken / "rating_head.safetensors")
    with pytest.raises(ValueError, match=r"weight is \[1, 8\] and must be \[1, 32\]"):
        rewards.load("multi-tap", path=broken)
    weights = load_file(trained / "model.safetensors")
    lost = next(name for name in weights if "layers.1.self_attn.q_proj" in name and "language" in name)
    save_file({n: t for n, t in weights.items() if n != lost}, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the model's weights, which would stay random: .*q_proj.weight"):
        rewards.load("multi-tap", path=broken)
    settings = json.loads((broken / "multi_tap.json").read_text())
    (broken / "multi_tap.json").write_text(json.dumps({**settings, "lowest": 5.0}))
    with pytest.raises(ValueError, match="ratings go from 5"):
        rewards.load("multi-tap", path=broken)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_is_merged_where_it_is_saved(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = RatingModel.create(base, dtype=dtype)
    model.lvlm.requires_grad_(False)
    model.add_lora(["q_proj", "v_proj"], rank=2, alpha=4, dropout=0.0)
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in trains)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=1e-3)  # an update that bfloat16 weights would mostly lose
        inputs = model.prompt([[picture] for picture in PICTURES], CAPTIONS)
        model.save(tmp_path)
        model.lvlm.float()  # computes in full precision, with the weights that it has
        rated = model.eval()(**inputs)
        base_rated = without_lora(model)(**inputs)
        assert (rated - base_rated).abs().max() > 1e-4
        plain = RatingModel.load(tmp_path)
        assert not any("lora" in name for name in plain.state_dict())
        torch.testing.assert_close(plain(**inputs), rated, atol=1e-5, rtol=0)
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    assert whole.dtype == torch.float32  # for whoever loads it as what it is, a plain checkpoint
    with pytest.raises(ValueError, match="lora_targets is"):
        RatingModel.create(base).add_lora(["nothing"], 2, 4, 0.0)
