import pytest
import torch
from tiny import CAPTIONS, SIDE, pictures
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    SwinConfig,
    SwinModel,
    ViTImageProcessor,
)

import captioners
from captioners import GridTransformer, GridTransformerConfig
from captioners.vision import GridVision

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VISION = {"image_size": SIDE, "patch_size": 8}
MODELS = {
    "clip": (
        lambda: CLIPModel(CLIPConfig(text_config=SIZES | {"vocab_size": 50}, vision_config=SIZES | VISION)),
        5,
        16,
    ),
    "dinov2": (lambda: Dinov2Model(Dinov2Config(**SIZES, **VISION)), 5, 16),
    "convnext": (lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)), 4, 16),
    "swin": (
        lambda: SwinModel(
            SwinConfig(image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2)
        ),
        4,
        16,
    ),
}


@pytest.mark.parametrize(("build", "positions", "width"), MODELS.values(), ids=MODELS)
def test_any_vision_model_gives_a_grid_and_a_captioner(build, positions: int, width: int, tmp_path) -> None:
    build().save_pretrained(tmp_path / "vision")
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "vision")
    eyes = GridVision.from_pretrained(tmp_path / "vision")
    visual = eyes.preprocessor(pictures(2))
    features = eyes.features(visual)
    assert features.shape == (2, 1, positions, width)
    sizes = GridTransformerConfig(d_model=16, encoder_layers=1, decoder_layers=1, heads=2, ffn=16, vocab_size=300)
    captioner = GridTransformer.create(tmp_path / "vision", CAPTIONS, sizes)
    assert captioner.sizes.max_positions == positions
    assert captioner.features(visual).equal(features)
    captioner.save_pretrained(tmp_path / "captioner")
    loaded = captioners.load(tmp_path / "captioner")
    captions = captioner.tokenize([CAPTIONS[:2], CAPTIONS[2:3]])
    scores = captioner(visual, captions).log_probs
    assert loaded(visual, captions).log_probs.equal(scores)
    # What the grid does not use is left out, the rest of the tower trains.
    captioner.freeze()
    captioner(visual, captions).log_probs.sum().backward()
    for name, parameter in captioner.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_what_is_no_vision_model_is_told(tmp_path) -> None:
    (tmp_path / "captioner" / "vision").mkdir(parents=True)
    for folder in ("captioner", "captioner/vision", "unknown"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "config.json").write_text('{"model_type": "grid_transformer"}')
    with pytest.raises(
        ValueError, match=r"captioner is a captioner and no vision model; its vision model is .*/vision$"
    ):
        GridVision.from_pretrained(tmp_path / "captioner")
    with pytest.raises(ValueError, match="unknown is no vision model that transformers knows"):
        GridVision.from_pretrained(tmp_path / "unknown")
    with pytest.raises(ValueError, match="no/such/folder is neither a directory here nor a model that the Hub would"):
        GridVision.from_pretrained("no/such/folder")
    MODELS["convnext"][0]().save_pretrained(tmp_path / "blind")
    with pytest.raises(ValueError, match="blind has no image processor"):
        GridVision.from_pretrained(tmp_path / "blind")


def test_clips_of_stored_and_computed_features_agree(tmp_path) -> None:
    MODELS["convnext"][0]().save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    eyes = GridVision.from_pretrained(tmp_path)
    frames = pictures(4)
    clips = eyes.features(eyes.preprocessor([frames[:3], frames[3:]]))
    singles = eyes.features(eyes.preprocessor(frames))
    assert torch.allclose(clips[0], singles[:3, 0], atol=1e-6)
    assert torch.allclose(clips[1, 0], singles[3, 0], atol=1e-6)
    assert not clips[1, 1:].any()
