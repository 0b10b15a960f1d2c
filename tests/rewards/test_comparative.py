"""The comparative scorer as a reward: the numbers it gives, and the scorers that it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import text_encoders
import torch
from safetensors.torch import load_file, save_file
from tiny import CAPTIONS, pictures
from tiny_encoders import tiny_encoders

import rewards
from rewards.comparative.calibration import Calibration, fit
from rewards.comparative.encoders import PictureEncoder, SentenceEncoder
from rewards.comparative.head import Head, HeadConfig
from rewards.comparative.scorer import Scorer, load_scorer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorer")
    picture_path, sentence_path = tiny_encoders(folder)
    pictures_, sentences = PictureEncoder.from_pretrained(picture_path), SentenceEncoder.from_pretrained(sentence_path)
    torch.manual_seed(1)
    head = Head(HeadConfig(24, 16, [8, 4], [0.1, 0.0]))
    head.fit_inputs(torch.randn(20, 24) * 3 + 1, torch.randn(20, 16))
    line = Calibration("linear", [0.0, 1.0], [2.0, 5.0])
    Scorer(pictures_, sentences, head, True, {"linear": line}, {"loss": "hinge"}).save(folder / "scorer")
    return folder / "scorer"


def by_hand(directory: Path, picture: object, caption: str) -> float:
    """One score without any of the reward's batching: encoders by `transformers`, the head layer by layer."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(directory / "picture_encoder").eval()
    pixels = AutoImageProcessor.from_pretrained(directory / "picture_encoder")(images=picture, return_tensors="pt")
    text, tokenizer = AutoModel.from_pretrained(directory / "sentence_encoder").eval(), None
    tokenizer = AutoTokenizer.from_pretrained(directory / "sentence_encoder")
    with torch.no_grad():
        seen = model(**pixels).pooler_output.flatten()  # a ResNet's pooler is the mean over positions
        read = text(input_ids=tokenizer(caption.lower(), return_tensors="pt")["input_ids"]).last_hidden_state[0].mean(0)
    weights = load_file(directory / "head.safetensors")
    x = (torch.cat([seen, read / read.norm()]) - weights["mean"]) / weights["deviation"]
    for linear, norm in ((0, 2), (4, 6)):  # Linear, ReLU, BatchNorm, Dropout; the second layer has no dropout
        x = torch.relu(weights[f"layers.{linear}.weight"] @ x + weights[f"layers.{linear}.bias"])
        mean, variance = weights[f"layers.{norm}.running_mean"], weights[f"layers.{norm}.running_var"]
        scale, shift = weights[f"layers.{norm}.weight"], weights[f"layers.{norm}.bias"]
        x = (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift
    return (weights["layers.7.weight"] @ x + weights["layers.7.bias"]).item()


def test_a_score_is_what_the_parts_give_by_hand(saved: Path) -> None:
    reward = rewards.load("comparative", path=saved, device="cpu")
    seen = pictures(2)
    scores = reward(CAPTIONS[:3] + CAPTIONS[:1], images=[seen[0], seen[0], seen[1], seen[1]], image_id=list("aabb"))
    expected = [
        by_hand(saved, *pair)
        for pair in zip([seen[0], seen[0], *seen[1:], seen[1]], [*CAPTIONS[:3], CAPTIONS[0]], strict=True)
    ]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert len(set(scores)) == 4


def test_a_calibrated_score_is_on_the_scale_of_the_ratings(saved: Path) -> None:
    columns = {"images": pictures(2), "image_id": ["a", "b"]}
    raw = rewards.load("comparative", path=saved, device="cpu")(CAPTIONS[:2], **columns)
    mapped = rewards.load("comparative", path=saved, calibration="linear", device="cpu")(CAPTIONS[:2], **columns)
    assert mapped == pytest.approx([2 + 3 * value for value in raw])
    with pytest.raises(ValueError, match=r"calibration is 'isotonic'; .* has linear"):
        rewards.load("comparative", path=saved, calibration="isotonic", device="cpu")


def test_the_record_has_the_calibration_itself(saved: Path, tmp_path: Path) -> None:
    refitted = shutil.copytree(saved, tmp_path / "refitted")
    content = json.loads((refitted / "scorer.json").read_text())
    content["calibrations"]["linear"]["ratings"] = [2.0, 4.5]
    (refitted / "scorer.json").write_text(json.dumps(content))
    records = [
        {**rewards.load("comparative", path=path, calibration=kind, device="cpu").describe(), "path": ""}
        for path in (saved, refitted)
        for kind in (None, "linear")
    ]
    assert {"torch", "transformers", "pillow"} <= set(records[0])
    assert records[0] == records[2]  # the score itself does not depend on a calibration
    differing = {key for key in records[1] if records[1][key] != records[3][key]}
    assert differing == {"calibration_points"}


def test_a_picture_is_encoded_once_and_kept_by_its_id(saved: Path) -> None:
    reward = rewards.load("comparative", path=saved, device="cpu", max_pictures=2)
    seen = pictures(3)
    first = reward(CAPTIONS[:4], images=[seen[0]] * 2 + [seen[1]] * 2, image_id=[0, 0, 1, 1])
    assert reward.pictures_encoded == 2
    assert reward(CAPTIONS[:4], images=[seen[0]] * 2 + [seen[1]] * 2, image_id=[0, 0, 1, 1]) == first
    assert reward.pictures_encoded == 2
    reward(CAPTIONS[:1], images=[seen[2]], image_id=[2])
    reward(CAPTIONS[:1], images=[seen[0]], image_id=[0])  # made room for the third
    assert reward.pictures_encoded == 4
    same = reward(CAPTIONS[:2], images=[seen[1], seen[1].copy()])  # without ids: by content
    assert reward.pictures_encoded == 5
    assert len(same) == 2


def test_a_clip_is_the_mean_of_its_frames_and_conversations_are_read(saved: Path) -> None:
    scorer = load_scorer(saved)
    frames = pictures(3)
    clip, picture = scorer.encode_pictures([frames, frames[:1]], 2)
    singles = scorer.encode_pictures([[frame] for frame in frames], 1)
    torch.testing.assert_close(clip, singles.mean(0))
    torch.testing.assert_close(picture, singles[0])
    reward = rewards.load("comparative", path=saved, device="cpu")
    told = [[{"role": "assistant", "content": CAPTIONS[0]}]]
    assert reward(told, image=[frames[0]]) == reward(CAPTIONS[:1], images=[[frames[0]]])


def test_padding_and_batches_change_no_vector(saved: Path) -> None:
    scorer = load_scorer(saved)
    together = scorer.encode_captions(CAPTIONS, 5)
    alone = torch.cat([scorer.encode_captions([caption], 1) for caption in CAPTIONS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5))


def test_what_determines_the_score_is_told(saved: Path) -> None:
    told = rewards.describe(rewards.load("comparative", path=saved, device="cpu"))
    assert told["trained"] == {"loss": "hinge"}
    assert all(told[key].startswith("sha256:") for key in ("picture_encoder", "sentence_encoder", "head"))
    json.dumps(told)


@pytest.mark.parametrize("part", ["picture_encoder", "sentence_encoder"])
def test_another_encoder_is_refused(part: str, saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "scorer"
    shutil.copytree(saved, copy)
    weights = load_file(copy / part / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, copy / part / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=f"{part} is not the encoder that this scorer was trained on"):
        load_scorer(copy)


def test_a_head_that_does_not_fit_is_refused_by_the_names_of_its_weights(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "scorer"
    shutil.copytree(saved, copy)
    weights = load_file(copy / "head.safetensors")
    weights["extra"] = weights.pop("layers.7.bias")
    weights["mean"] = weights["mean"][:-1].clone()
    save_file(weights, copy / "head.safetensors")
    message = r"extra is not of this head; layers.7.bias is missing; mean is \[39\] and must be \[40\]"
    with pytest.raises(ValueError, match=message):
        load_scorer(copy)
    with pytest.raises(ValueError, match=r"holds no comparative scorer: scorer\.json is missing"):
        load_scorer(tmp_path)
    with pytest.raises(ValueError, match="the reward 'comparative' needs the option"):
        rewards.load("comparative")


def test_weights_that_a_vector_depends_on_must_be_there(tmp_path: Path) -> None:
    picture_path, sentence_path = tiny_encoders(tmp_path, "vit")
    with pytest.raises(ValueError, match=r"lacks 2 of the model's weights, .* pooler.dense.bias"):
        SentenceEncoder.from_pretrained(sentence_path, "pooler")  # would be random
    weights = load_file(picture_path / "model.safetensors")
    lost = next(name for name in weights if "layernorm_after" in name)
    del weights[lost]
    save_file(weights, picture_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the model's weights, .*layernorm_after"):
        PictureEncoder.from_pretrained(picture_path)
    with pytest.raises(ValueError, match="does not take pictures alone"):
        PictureEncoder.from_pretrained(sentence_path)
    with pytest.raises(ValueError, match="pooling is 'max'; it can be mean, first, pooler"):
        PictureEncoder.from_pretrained(picture_path, "max")


def test_first_position_of_a_vit_is_its_cls_token(tmp_path: Path) -> None:
    path, _ = tiny_encoders(tmp_path, "vit")
    first, mean = PictureEncoder.from_pretrained(path, "first"), PictureEncoder.from_pretrained(path)
    pixels = first.preprocess(pictures(2))
    states = first.model(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(first(pixels), states[:, 0])
    torch.testing.assert_close(mean(pixels), states.mean(1))
    assert not mean.train().model.training


@pytest.mark.parametrize("kind", text_encoders.BUILDERS)
def test_sentences_longer_than_the_encoder_reads_are_cut(kind: str, tmp_path: Path) -> None:
    encoder = SentenceEncoder.from_pretrained(text_encoders.BUILDERS[kind](tmp_path))
    cut, longer = encoder(["a red circle " * 9, "a red circle " * 9 + "blue"])
    torch.testing.assert_close(cut, longer, atol=1e-6, rtol=0)


def test_calibration_of_points_in_closed_form() -> None:
    pytest.importorskip("sklearn", reason="calibration is fitted by scikit-learn (extra `scorers`)")
    scores, ratings = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 4.0])
    linear, isotonic = fit("linear", scores, ratings), fit("isotonic", scores, ratings)
    np.testing.assert_allclose(linear(np.array([0.0, 1.5, 5.0])), [1.3, 2.5, 5.3])  # slope 0.8, goes on
    np.testing.assert_allclose(isotonic(np.array([-1.0, 1.0, 2.0, 9.0])), [1.0, 2.5, 2.5, 4.0])  # pooled, stays
    with pytest.raises(ValueError, match=r"all 2 scores are 1\.0"):
        fit("linear", np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="calibration is 'platt'"):
        fit("platt", scores, ratings)


def test_a_pooler_that_is_not_read_changes_no_fingerprint(tmp_path: Path) -> None:
    for path, encoder in zip(tiny_encoders(tmp_path, "vit"), (PictureEncoder, SentenceEncoder), strict=True):
        prints = []
        for seed in (1, 2):
            torch.manual_seed(seed)  # of the pooler, which the files lack
            prints.append(encoder.from_pretrained(path).fingerprint())
        assert prints[0] == prints[1]
        assert encoder.from_pretrained(path, "first").fingerprint() != prints[0]
