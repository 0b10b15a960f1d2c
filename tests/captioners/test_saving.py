import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from inner import inner_generate
from safetensors.torch import load_file, save_file
from tiny import ALL_CAPTIONERS, CAPTIONERS, CAPTIONS, pictures, tiny_encoder_decoder, tiny_grid_transformer
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    VisionEncoderDecoderModel,
)
from transformers.modeling_outputs import BaseModelOutput

import captioners
from captioners import EncoderDecoder, GenerationSettings, GridCaptioner, GridTransformer, GridTransformerConfig

EVERY = pytest.mark.parametrize("build", ALL_CAPTIONERS.values(), ids=ALL_CAPTIONERS)
GROUPS = [CAPTIONS[:2], CAPTIONS[2:3]]


@EVERY
@pytest.mark.parametrize("max_frames", [1, 3])
def test_a_loaded_captioner_is_the_saved_one(build, max_frames: int, tmp_path) -> None:
    captioner = build(max_frames=max_frames)
    if max_frames > 1 and isinstance(captioner, GridCaptioner):
        torch.nn.init.normal_(captioner.temporal.weight)
    captioner.save_pretrained(tmp_path / "checkpoint")
    loaded = captioners.load(tmp_path / "checkpoint")
    assert type(loaded) is type(captioner)
    assert not loaded.training
    assert loaded.codec.special == captioner.codec.special
    assert loaded.codec.limit == captioner.codec.limit
    visuals = pictures(2) if max_frames == 1 else [pictures(3), pictures(2, seed=1)]
    visual, captions = captioner.preprocess(visuals), captioner.tokenize(GROUPS)
    assert loaded.preprocess(visuals)["pixel_values"].equal(visual["pixel_values"])
    assert loaded.tokenize(GROUPS).ids.equal(captions.ids)
    assert loaded(visual, captions).log_probs.equal(captioner(visual, captions).log_probs)
    assert loaded.state_dict().keys() == captioner.state_dict().keys()
    # Saving again over the old files leaves nothing behind and loads the same.
    loaded.save_pretrained(tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    again = captioners.load(str(tmp_path / "checkpoint"))
    assert again(visual, captions).log_probs.equal(captioner(visual, captions).log_probs)


@pytest.mark.parametrize("decoder", ["gpt2", "bert", "roberta", "bart", "trocr"])
def test_plain_transformers_loads_an_encoder_decoder(decoder: str, tmp_path) -> None:
    captioner = tiny_encoder_decoder(decoder, max_frames=2, attention="eager")
    captioner.save_pretrained(tmp_path)
    model = VisionEncoderDecoderModel.from_pretrained(tmp_path, attn_implementation="eager")
    tokenizer, processor = AutoTokenizer.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)
    visual, captions = captioner.preprocess(pictures(1)), captioner.tokenize([CAPTIONS[:1]])
    pixels = processor(images=pictures(1), return_tensors="pt")["pixel_values"]
    ids = tokenizer(CAPTIONS[0], add_special_tokens=False, return_tensors="pt")["input_ids"]
    start = torch.tensor([[model.generation_config.decoder_start_token_id]])
    logits = model(pixel_values=pixels, decoder_input_ids=torch.cat([start, ids], dim=1)).logits
    targets = captions.ids[0]
    log_probs = logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    assert torch.allclose(log_probs, captioner(visual, captions).log_probs[0], atol=1e-4)
    # BART's default forces EOS at the length limit; what is sampled here is never forced.
    model.generation_config.forced_eos_token_id = None
    # With its own generate it captions as the captioner's greedy search does.
    greedy = captioner.greedy(captioner.encode(visual), GenerationSettings(max_new_tokens=5))
    assert model.generate(pixels, max_new_tokens=5, do_sample=False, num_beams=1)[:, 1:].equal(greedy.ids[0])


@pytest.mark.parametrize("vision", ["resnet", "vit"])
def test_plain_transformers_loads_both_halves_of_a_grid_transformer(vision: str, tmp_path) -> None:
    captioner = tiny_grid_transformer(vision)
    captioner.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "connector.safetensors", "vision", "transformer", "tokenizer.json"} <= names
    visual = captioner.preprocess(pictures(2))
    tower = AutoModel.from_pretrained(tmp_path / "vision")
    states = tower(
        AutoImageProcessor.from_pretrained(tmp_path / "vision")(pictures(2), return_tensors="pt")["pixel_values"]
    )
    grid = states.last_hidden_state
    grid = grid.flatten(2).transpose(1, 2) if grid.ndim == 4 else grid
    assert torch.allclose(grid, captioner.features(visual)[:, 0], atol=1e-5)  # convolutions of another memory layout
    transformer = EncoderDecoderModel.from_pretrained(tmp_path / "transformer")
    encoded = transformer.encoder(inputs_embeds=captioner.projection(grid)).last_hidden_state
    assert torch.allclose(encoded, captioner.encode(visual).states, atol=1e-5)
    ids = transformer.generate(encoder_outputs=BaseModelOutput(encoded), max_new_tokens=5, do_sample=False)
    ours = inner_generate(captioner, visual, max_new_tokens=5, do_sample=False)
    assert ids.equal(ours.sequences)


@pytest.mark.parametrize("name", ["vit-gpt2", "grid-resnet", "blip", "florence2", "blip2-t5"])
def test_frames_can_be_added_on_loading(name: str, tmp_path) -> None:
    captioner = CAPTIONERS[name]()
    captioner.save_pretrained(tmp_path)
    clips = captioners.load(tmp_path, max_frames=3)
    captions = captioner.tokenize(GROUPS)
    visual = captioner.preprocess(pictures(2))
    assert clips(visual, captions).log_probs.equal(captioner(visual, captions).log_probs)
    assert clips.temporal.weight.shape[0] == 3
    torch.nn.init.normal_(clips.temporal.weight)
    clips.save_pretrained(tmp_path)
    longer = captioners.load(tmp_path, max_frames=5)
    assert longer.temporal.weight[:3].equal(clips.temporal.weight)
    assert not longer.temporal.weight[3:].any()
    with pytest.raises(ValueError, match="max_frames is 2"):
        captioners.load(tmp_path, max_frames=2)


def test_dtype_is_float32_unless_asked(tmp_path) -> None:
    tiny_grid_transformer().half().save_pretrained(tmp_path)
    assert {p.dtype for p in captioners.load(tmp_path).parameters()} == {torch.float32}
    assert {p.dtype for p in captioners.load(tmp_path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_what_cannot_be_loaded_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        captioners.load(tmp_path)
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"it is a run's folder: give .*/run/best$"):
        captioners.load(tmp_path / "run")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        ValueError, match="'bert' model; supported captioners are blip, blip-2 with opt, blip-2 with t5, fl"
    ):
        captioners.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip-2", "text_config": {"model_type": "bloom"}}))
    with pytest.raises(
        ValueError, match="'blip-2 with bloom' model; supported captioners are blip, blip-2 with opt, blip"
    ):
        captioners.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        captioners.load(tmp_path)
    with pytest.raises(ValueError, match="neither a directory here nor a model"):
        captioners.load(tmp_path / "missing")


def as_older_transformers_wrote(captioner: EncoderDecoder, directory: Path) -> None:
    """The layout of ViT-GPT2 on the Hub: a .bin, ids in config.json, a feature extractor in place of a processor."""
    captioner.save_pretrained(directory)
    (directory / "model.safetensors").unlink()
    torch.save(captioner.model.state_dict(), directory / "pytorch_model.bin")
    generation = json.loads((directory / "generation_config.json").read_text())
    (directory / "generation_config.json").unlink()
    config = json.loads((directory / "config.json").read_text())
    config |= {name: generation[name] for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")}
    (directory / "config.json").write_text(json.dumps(config))
    processor = json.loads((directory / "preprocessor_config.json").read_text())
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": processor["size"]["height"], "resample": 2}
    old |= {name: processor[name] for name in ("do_resize", "do_normalize", "image_mean", "image_std")}
    (directory / "preprocessor_config.json").write_text(json.dumps(old))


def test_checkpoints_of_older_transformers_load(tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder().eval()
    as_older_transformers_wrote(captioner, tmp_path)
    loaded = captioners.load(tmp_path)
    assert loaded.codec.special == captioner.codec.special
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize([CAPTIONS[:2]] * 2)
    assert loaded.preprocess(pictures(2))["pixel_values"].equal(visual["pixel_values"])
    assert loaded(visual, captions).log_probs.equal(captioner(visual, captions).log_probs)


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_code_in_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    captioner = tiny_encoder_decoder()
    as_older_transformers_wrote(captioner, tmp_path / "captioner")
    weights = {**captioner.model.state_dict(), "extra": Malicious()}
    torch.save(weights, tmp_path / "captioner" / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        captioners.load(tmp_path / "captioner")
    assert not (tmp_path / "executed").exists()


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    captioner = tiny_encoder_decoder()
    captioner.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    pooler = {name for name in weights if "pooler" in name}
    assert pooler
    without_pooler = {name: tensor for name, tensor in weights.items() if name not in pooler}
    save_file(without_pooler, tmp_path / "model.safetensors", metadata={"format": "pt"})
    captioners.load(tmp_path)  # which no caption depends on
    lost = "decoder.transformer.h.1.crossattention.c_attn.weight"
    save_file(
        {name: tensor for name, tensor in without_pooler.items() if name != lost},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match=rf"lacks 1 of the model's weights, which would stay random: model\.{lost}"):
        captioners.load(tmp_path)


def test_a_vision_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    tiny_grid_transformer("vit").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "vision" / "model.safetensors")
    lost = "embeddings.position_embeddings"
    assert lost in weights
    kept = {name: tensor for name, tensor in weights.items() if name != lost}
    save_file(kept, tmp_path / "vision" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks 1 of the model's weights, which would stay random: {lost}"):
        captioners.load(tmp_path)


def test_an_unknown_decoder_is_named(tmp_path) -> None:
    captioner = tiny_encoder_decoder()
    captioner.model.decoder.config.model_type = "opt"
    with pytest.raises(ValueError, match="the decoder is a 'opt'; supported decoders are bart, bert, blip_text_model"):
        captioner(captioner.preprocess(pictures(1)), captioner.tokenize([["a dog"]]))


def test_a_model_without_start_token_is_refused(tmp_path) -> None:
    captioner = tiny_encoder_decoder()
    captioner.model.generation_config.decoder_start_token_id = None
    captioner.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no decoder_start_token_id"):
        captioners.load(tmp_path)


def test_a_grid_larger_than_its_positions_is_refused() -> None:
    captioner = tiny_grid_transformer("vit")
    with pytest.raises(ValueError, match=r"the grid has 6 positions, .* at most 5"):
        captioner.encode({"features": torch.zeros(1, 1, 6, 24)})


def test_a_grid_transformer_needs_a_vision_model(tmp_path) -> None:
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'gpt2' model, which does not take pictures"):
        GridTransformer.create(tmp_path, CAPTIONS)
    with pytest.raises(ValueError, match=r"d_model \(30\) is not a multiple of heads \(8\)"):
        GridTransformerConfig(d_model=30)


def test_real_resnet_gives_a_grid_of_49(shared) -> None:
    sizes = GridTransformerConfig(d_model=32, encoder_layers=1, decoder_layers=1, heads=2, ffn=32, vocab_size=300)
    captioner = GridTransformer.create(shared / "data/weights/resnet50-imagenet", CAPTIONS, sizes)
    visual = captioner.preprocess(pictures(1))
    assert captioner.features(visual).shape == (1, 1, 49, 2048)
    assert captioner.sizes.max_positions == 49
    assert captioner.dtype == torch.float32
    assert captioner.encode(visual).states.shape == (1, 49, 32)
