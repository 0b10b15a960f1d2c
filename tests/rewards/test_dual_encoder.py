"""Dual encoders: features by hand, exact trimming, and weights that do not match."""

from pathlib import Path

import open_clip
import pytest
import tiny_clip
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn.functional import normalize
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    RobertaConfig,
    SiglipConfig,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from rewards.dual_encoder_loading import load_dual_encoder

CAPTIONS = ["a dog", "a man rides a red horse in the snow", "snow"]
WORDS = ["<pad>", "<s>", *sorted(set(" ".join(CAPTIONS).split())), "</s>"]
TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {**TOWER, "image_size": 16, "patch_size": 8}


def pictures(n: int) -> list[Image.Image]:
    noise = torch.Generator().manual_seed(3)
    values = [torch.randint(0, 256, (40, 50, 3), generator=noise, dtype=torch.uint8) for _ in range(n)]
    return [Image.fromarray(value.numpy()) for value in values]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", WORDS.index("<s>")), ("</s>", WORDS.index("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=20
    )


def tiny_model(kind: str):
    text = {**TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 20, "eos_token_id": len(WORDS) - 1}
    if kind == "clip":
        return CLIPModel(CLIPConfig(text_config=text, vision_config=IMAGE, projection_dim=8))
    if kind == "siglip":
        return SiglipModel(SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=IMAGE))
    vision = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    vision.hidden_size = 16  # what VisionTextDualEncoderModel projects from
    words = {k: v for k, v in text.items() if k != "eos_token_id"}
    read = RobertaConfig(**words, pad_token_id=0) if kind == "resnet and roberta" else BertConfig(**words)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, read, projection_dim=8)
    return VisionTextDualEncoderModel(config)


def save(kind: str, directory: Path) -> Path:
    torch.manual_seed(0)
    model = tiny_model(kind)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return tiny_clip.random_state()


@pytest.fixture(scope="module")
def directory(state, tmp_path_factory) -> Path:
    return tiny_clip.write_open_clip(tmp_path_factory.mktemp("clip"), state)


def test_openai_layout_gives_the_features_by_hand(state, directory: Path) -> None:
    encoder = load_dual_encoder(directory)
    seen = encoder.encode_images(encoder.preprocess(pictures(2)))
    by_hand = [tiny_clip.image_features_by_hand(state, tiny_clip.pixels_by_hand(picture)) for picture in pictures(2)]
    torch.testing.assert_close(seen, normalize(torch.cat(by_hand), dim=-1), atol=1e-5, rtol=0)
    read = encoder.encode_texts(**encoder.tokenize(CAPTIONS))
    rows = open_clip.tokenize(CAPTIONS)
    ids = [row[: row.argmax() + 1].tolist() for row in rows]
    by_hand = [tiny_clip.text_features_by_hand(state, own) for own in ids]
    torch.testing.assert_close(read, normalize(torch.cat(by_hand), dim=-1), atol=1e-5, rtol=0)
    assert torch.pdist(read).min() > 0.05


def test_trimmed_rows_are_exact(directory: Path) -> None:
    """Rows as long as the longest caption give what open_clip's own encode_text gives at the whole context of 77."""
    encoder = load_dual_encoder(directory)
    rows = encoder.tokenize(CAPTIONS)
    assert rows["input_ids"].shape == (3, 11)
    assert rows["attention_mask"].sum(1).tolist() == [4, 11, 3]
    whole = normalize(encoder.model.encode_text(open_clip.tokenize(CAPTIONS)), dim=-1)
    torch.testing.assert_close(encoder.encode_texts(**rows), whole, atol=1e-6, rtol=0)
    tokens = encoder.encode_tokens(**rows)
    torch.testing.assert_close(tokens[0, 3], whole[0], atol=1e-6, rtol=0)


def test_a_caption_beyond_the_context_is_cut_and_ends(directory: Path) -> None:
    encoder = load_dual_encoder(directory)
    rows = encoder.tokenize(["dog " * 100])
    assert rows["input_ids"].shape == (1, 77)
    assert rows["input_ids"][0, -1] == 49407
    assert torch.isfinite(encoder.encode_texts(**rows)).all()


def test_it_is_a_module_to_be_trained(directory: Path) -> None:
    encoder = load_dual_encoder(directory)
    seen, read = encoder(encoder.preprocess(pictures(2)), **_as_arguments(encoder.tokenize(CAPTIONS[:2])))
    (encoder.logit_scale.exp() * (seen * read).sum(-1)).sum().backward()
    assert not [name for name, parameter in encoder.named_parameters() if parameter.grad is None]


def _as_arguments(rows):
    return {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"open_clip cannot load local-dir:.*could not be loaded"):
        load_dual_encoder(tiny_clip.write_open_clip(tmp_path, None))


@pytest.mark.parametrize("kind", ["clip", "siglip", "resnet and bert", "resnet and roberta"])
def test_captions_beyond_the_context_of_a_transformers_model_are_cut(kind: str, tmp_path: Path) -> None:
    encoder = load_dual_encoder(save(kind, tmp_path))
    rows = encoder.tokenize(["dog " * 100])
    assert rows["input_ids"].shape == (1, 19 if kind == "resnet and roberta" else 20)
    assert torch.isfinite(encoder.encode_texts(**rows)).all()


@pytest.mark.parametrize("kind", ["clip", "siglip", "resnet and bert"])
def test_transformers_models_by_directory(kind: str, tmp_path: Path) -> None:
    encoder = load_dual_encoder(save(kind, tmp_path))
    pixels = encoder.preprocess(pictures(3))
    assert pixels.shape == (3, 3, 16, 16)
    seen = encoder.encode_images(pixels)
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(3))
    model = encoder.model
    if kind == "resnet and bert":
        pooled = model.vision_model(pixels).pooler_output[:, :, 0, 0]
        torch.testing.assert_close(seen, normalize(model.visual_projection(pooled), dim=-1))
    else:
        torch.testing.assert_close(seen, normalize(model.get_image_features(pixels).pooler_output, dim=-1))

    rows = encoder.tokenize(CAPTIONS)
    assert rows["input_ids"].shape[1] == (20 if kind == "siglip" else 11)
    whole = tiny_tokenizer()(CAPTIONS, padding="max_length", max_length=20, return_tensors="pt")
    given = {"input_ids": whole["input_ids"]}
    if kind != "siglip":
        given["attention_mask"] = whole["attention_mask"]
    expected = normalize(model.get_text_features(**given).pooler_output, dim=-1)
    read = encoder.encode_texts(**rows)
    torch.testing.assert_close(read, expected, atol=1e-6, rtol=1e-5)
    if kind == "clip":
        tokens = encoder.encode_tokens(**rows)
        torch.testing.assert_close(tokens[1, 10], read[1], atol=1e-6, rtol=1e-5)
    else:
        with pytest.raises(ValueError, match="no states of tokens in the common space"):
            encoder.encode_tokens(**rows)
    encoder.save_pretrained(tmp_path / "again")
    assert load_dual_encoder(tmp_path / "again").describe()["weights"] == encoder.describe()["weights"]


def test_transformers_weights_that_do_not_match_are_named(tmp_path: Path) -> None:
    save("clip", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if k != "text_projection.weight"}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1: text_projection\.weight"):
        load_dual_encoder(tmp_path)
    lora = {"text_model.encoder.layers.0.mlp.fc1.lora_A": torch.zeros(2, 2)}
    save_file({**weights, **lora}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no place for, 1: text_model.*lora_A"):
        load_dual_encoder(tmp_path)


def test_what_is_no_dual_encoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither config\.json .* nor open_clip_config\.json"):
        load_dual_encoder(tmp_path)
    BertModel(BertConfig(**TOWER, vocab_size=10)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' model; dual encoders are clip, siglip"):
        load_dual_encoder(tmp_path)
    with pytest.raises(ValueError, match="is no model of open_clip"):
        load_dual_encoder(tmp_path, checkpoint="PAC++_clip_ViT-B-32.pth")


def test_weights_that_cannot_be_downloaded_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32"], "nowhere", {"url": (tmp_path / "x.pt").as_uri()})
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="open_clip cannot load ViT-B-32:nowhere: Failed to download weights"):
        load_dual_encoder("ViT-B-32:nowhere")
    assert not caplog.records


def test_open_clip_names_that_have_no_weights() -> None:
    with pytest.raises(ValueError, match="without weights; give ViT-B-32:TAG"):
        load_dual_encoder("ViT-B-32")
    with pytest.raises(ValueError, match="tags are none; is the name right"):
        load_dual_encoder("ViT-Z-9:openai")
    with pytest.raises(ValueError, match=r"no weights .nowhere. of .RN50.; its tags are openai"):
        load_dual_encoder("RN50:nowhere")
    with pytest.raises(ValueError, match="knows no weights"):  # weights that were trained without QuickGELU
        load_dual_encoder("ViT-B-32-quickgelu:laion2b_s34b_b79k")
