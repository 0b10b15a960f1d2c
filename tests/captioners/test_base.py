import copy

import pytest
import torch
from inner import as_captions, inner_generate, transition_scores
from tiny import (
    ALL_CAPTIONERS,
    CAPTIONERS,
    CAPTIONS,
    in_first_decoder_layer,
    pictures,
    tiny_encoder_decoder,
    tiny_grid_transformer,
    vision_rows,
)
from torch import nn

from captioners import PARTS, Blip, GenerationSettings
from captioners.prefix import PrefixDecoder

BUILDERS = pytest.mark.parametrize("build", CAPTIONERS.values(), ids=CAPTIONERS)
EVERY = pytest.mark.parametrize("build", ALL_CAPTIONERS.values(), ids=ALL_CAPTIONERS)
RAGGED = [CAPTIONS[:3], CAPTIONS[3:4]]
SETTINGS = GenerationSettings(max_new_tokens=6)


@EVERY
@pytest.mark.parametrize("per_picture", [1, 3])
def test_forward_equals_the_scores_that_generate_reports(build, per_picture: int) -> None:
    captioner = build()
    visual = captioner.preprocess(pictures(2))
    torch.manual_seed(1)
    output = inner_generate(
        captioner, visual, do_sample=True, top_k=0, num_return_sequences=per_picture, max_new_tokens=12
    )
    captions = as_captions(captioner, output.sequences, per_picture)
    expected = transition_scores(captioner, output).view(captions.ids.shape).masked_fill(~captions.mask, 0)
    assert torch.allclose(captioner(visual, captions).log_probs, expected, atol=1e-4)


@EVERY
def test_temperature_scores_what_is_sampled_at_that_temperature(build) -> None:
    captioner = build()
    visual = captioner.preprocess(pictures(2))
    output = inner_generate(captioner, visual, do_sample=True, top_k=0, temperature=0.6, max_new_tokens=8)
    captions = as_captions(captioner, output.sequences, 1)
    expected = transition_scores(captioner, output).view(captions.ids.shape).masked_fill(~captions.mask, 0)
    assert torch.allclose(captioner(visual, captions, temperature=0.6).log_probs, expected, atol=1e-4)


@BUILDERS
def test_a_picture_is_encoded_once_a_phase(build) -> None:
    captioner = build()
    rows = vision_rows(captioner)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    context = captioner.encode(visual)
    assert rows == [2]
    captioner.sample(context, 5, SETTINGS)
    captioner.greedy(context, SETTINGS)
    captioner.beam_search(context, SETTINGS)
    captioner(context, captions)
    assert rows == [2]
    captioner(visual, captions)
    assert rows == [2, 2]


@BUILDERS
def test_stored_features_replace_the_vision_tower(build) -> None:
    captioner = build()
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    expected = captioner(visual, captions).log_probs
    features = captioner.features(visual)
    assert features.shape[:2] == (2, 1)
    rows = vision_rows(captioner)
    assert captioner({"features": features}, captions).log_probs.equal(expected)
    half = captioner({"features": features.half()}, captions).log_probs
    assert torch.allclose(half, expected, atol=0.1)
    assert rows == []
    captioner.freeze("decoder")
    captioner.train()
    with pytest.raises(ValueError, match="stored features cannot train the vision tower"):
        captioner({"features": features}, captions)


@EVERY
def test_a_finished_context_must_not_hide_parts_that_train(build) -> None:
    captioner = build(max_frames=2)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    with torch.no_grad():
        context = captioner.encode(visual)
    captioner.freeze("vision")
    captioner.train()
    with pytest.raises(ValueError, match="a context without gradient cannot train connector"):
        captioner(context, captions)
    captioner.dropout_off = True
    if "decoder" in captioner.context_parts:
        # The language model's own encoder has read the picture.
        captioner.freeze("vision", "connector")
        with pytest.raises(ValueError, match="a context without gradient cannot train decoder"):
            captioner(context, captions)
    captioner.freeze(*captioner.context_parts)
    assert captioner(context, captions).log_probs.allclose(captioner(visual, captions).log_probs, atol=1e-5)


@EVERY
@pytest.mark.parametrize("max_frames", [1, 3])
def test_parts_hold_every_parameter_once(build, max_frames: int) -> None:
    captioner = build(max_frames=max_frames)
    parts = captioner.parts()
    assert tuple(parts) == PARTS
    held = [id(p) for modules in parts.values() for module in modules for p in module.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in captioner.parameters()}


@EVERY
@pytest.mark.parametrize("frozen", [(), ("vision",), ("vision", "connector"), ("decoder",)], ids=str)
@pytest.mark.parametrize("frames", [1, 2])
def test_gradients_reach_every_trainable_parameter_and_no_other(build, frozen, frames: int) -> None:
    captioner = build(max_frames=2)
    captioner.freeze(*frozen)
    captioner.train()
    visuals = pictures(2) if frames == 1 else [pictures(2), pictures(1)]
    captioner(captioner.preprocess(visuals), captioner.tokenize(RAGGED)).log_probs.sum().backward()
    unused = captioner.unused_parameters()
    frozen_ids = {id(p) for part in frozen for m in captioner.parts()[part] for p in m.parameters()}
    for name, parameter in captioner.named_parameters():
        trains = name not in unused and id(parameter) not in frozen_ids
        assert parameter.requires_grad == trains, name
        assert (parameter.grad is not None) == trains, name
    for part, modules in captioner.parts().items():
        if frames == 1 and part == "connector" and isinstance(captioner, Blip):
            continue  # BLIP has no other connector, and pictures have no order
        moved = any(p.grad is not None and p.grad.any() for m in modules for p in m.parameters())
        assert moved == (part not in frozen)


def test_no_caption_at_all_still_gives_every_parameter_a_gradient() -> None:
    for layout in ("packed", "rows"):
        captioner = tiny_grid_transformer()
        captioner.layout = layout
        captioner.freeze("vision")
        captions = captioner.tokenize(RAGGED)
        absent = torch.zeros_like(captions.caption_mask)
        empty = type(captions)(captions.ids, captions.mask, absent, absent)
        scores = captioner(captioner.preprocess(pictures(2)), empty)
        assert scores.log_probs.eq(0).all()
        scores.log_probs.sum().backward()
        assert all((p.grad is not None) == p.requires_grad for p in captioner.parameters())
        assert not any(p.grad.any() for p in captioner.parameters() if p.grad is not None)


def test_unused_parameters_are_poolers_and_the_words_of_the_encoder() -> None:
    assert tiny_encoder_decoder().unused_parameters() == {
        "model.encoder.pooler.dense.weight",
        "model.encoder.pooler.dense.bias",
    }
    assert tiny_grid_transformer().unused_parameters() == {
        "transformer.encoder.pooler.dense.weight",
        "transformer.encoder.pooler.dense.bias",
        "transformer.encoder.embeddings.word_embeddings.weight",
    }
    captioner = tiny_encoder_decoder()
    captioner.freeze("decoder")
    before = {name: p.requires_grad for name, p in captioner.named_parameters()}
    captioner.unused_parameters()
    assert {name: p.requires_grad for name, p in captioner.named_parameters()} == before


@pytest.mark.parametrize("frozen", [("vision",), ("connector",), ()], ids=str)
def test_training_steps_move_no_frozen_part_and_no_batchnorm_statistics(frozen) -> None:
    captioner = tiny_grid_transformer("resnet")
    captioner.freeze(*frozen)
    before = copy.deepcopy(captioner.state_dict())
    optimizer = torch.optim.SGD([p for p in captioner.parameters() if p.requires_grad], lr=0.1)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    for _ in range(3):
        captioner.train()
        optimizer.zero_grad()
        (-captioner(visual, captions).log_probs.mean()).backward()
        optimizer.step()
    prefixes = {"vision": ("vision.",), "connector": ("projection.", "transformer.encoder."), "decoder": ()}
    for name, value in captioner.state_dict().items():
        if "running" in name or "batches_tracked" in name:
            assert value.equal(before[name]), name
        for part in frozen:
            if name.startswith(prefixes[part]):
                assert value.equal(before[name]), name
    moved = {name for name, value in captioner.state_dict().items() if not value.equal(before[name])}
    assert any(name.startswith("transformer.decoder.") for name in moved)
    assert any(name.startswith("vision.") for name in moved) == ("vision" not in frozen)


def test_train_leaves_frozen_parts_and_batchnorm_in_eval() -> None:
    captioner = tiny_grid_transformer("resnet")
    captioner.train()
    norms = [m for m in captioner.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert captioner.vision.training
    captioner.freeze("vision", "decoder")
    captioner.train()
    assert captioner.frozen == {"vision", "decoder"}
    assert not any(m.training for m in captioner.vision.modules())
    assert not any(m.training for m in captioner.transformer.decoder.modules())
    assert captioner.transformer.encoder.training
    captioner.freeze("decoder")
    assert captioner.vision.training
    captioner.eval()
    assert not any(m.training for m in captioner.modules())


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ValueError, match="no part named encoder; the parts are vision, connector, decoder"):
        tiny_encoder_decoder().freeze("encoder")


@pytest.mark.parametrize(
    "name",
    ["gpt2", "bert", "roberta", "bart", "trocr", "grid-resnet", "blip", "florence2", "blip2-t5", "git", "blip2-opt"],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_off_holds_in_train_mode_and_under_checkpointing(name: str, checkpointing: bool) -> None:
    captioner = CAPTIONERS[name](dropout=0.5) if name in CAPTIONERS else tiny_encoder_decoder(name, dropout=0.5)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    expected = captioner(visual, captions).log_probs
    if checkpointing:
        captioner.gradient_checkpointing_enable()
    captioner.train()
    assert not captioner(visual, captions).log_probs.allclose(expected, atol=1e-2)
    captioner.dropout_off = True
    assert captioner.training
    assert captioner(visual, captions).log_probs.allclose(expected, atol=1e-5)
    captioner.dropout_off = False
    assert not captioner(visual, captions).log_probs.allclose(expected, atol=1e-2)


@EVERY
def test_gradient_checkpointing_recomputes_layers_and_changes_no_gradient(build) -> None:
    captioner = build()
    captioner.freeze()
    captioner.dropout_off = True
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    runs: list[int] = []
    # Before, not after: a layer is computed again only as far as backward needs it.
    in_first_decoder_layer(captioner).register_forward_pre_hook(lambda *_: runs.append(1))

    def gradients() -> dict[str, torch.Tensor]:
        captioner.train()
        captioner.zero_grad()
        captioner(visual, captions).log_probs.sum().backward()
        return {name: p.grad.clone() for name, p in captioner.named_parameters() if p.grad is not None}

    plain = gradients()
    # A prefix runs by itself, and its captions behind it; under checkpointing they are one sequence.
    assert len(runs) == (2 if isinstance(captioner._decoder(), PrefixDecoder) else 1)
    runs.clear()
    captioner.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointed = gradients()
    assert len(runs) == 2
    context = captioner.encode(visual)
    greedy = captioner.greedy(context, SETTINGS)
    captioner.gradient_checkpointing_disable()
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], rtol=1e-3, atol=1e-4), name
    assert greedy.ids.equal(captioner.greedy(context, SETTINGS).ids)


def test_chunked_vocabulary_gives_the_same_scores_and_gradients() -> None:
    captioner = tiny_encoder_decoder()
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    results = []
    for max_bytes in (2**28, 5000):
        captioner.max_logit_bytes = max_bytes
        captioner.zero_grad()
        scores = captioner(visual, captions)
        (scores.log_probs.sum() + 0.1 * scores.smoothing.sum()).backward()
        gradients = [p.grad.clone() for p in captioner.parameters() if p.grad is not None]
        results.append([scores.log_probs, scores.entropy, scores.smoothing, *gradients])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_entropy_and_smoothing_of_a_captioner_equal_its_inner_model() -> None:
    captioner = tiny_encoder_decoder()
    visual, captions = captioner.preprocess(pictures(1)), captioner.tokenize([CAPTIONS[:1]])
    scores = captioner(visual, captions, temperature=1.5)
    start = torch.tensor([[captioner.codec.special.start]])
    ids = torch.cat([start, captions.ids[0, :, :-1]], dim=-1)
    log_p = (captioner.model(**visual, decoder_input_ids=ids).logits / 1.5).log_softmax(-1)
    assert torch.allclose(scores.entropy[0], -(log_p.exp() * log_p).sum(-1), atol=1e-5)
    assert torch.allclose(scores.smoothing[0], log_p.mean(-1), atol=1e-5)
    assert not scores.entropy.requires_grad


def test_a_copy_is_a_reference_model_of_its_own() -> None:
    captioner = tiny_grid_transformer()
    reference = copy.deepcopy(captioner)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
    before = reference(visual, captions).log_probs
    with torch.no_grad():
        for parameter in captioner.parameters():
            parameter.mul_(0.5)
    assert reference(visual, captions).log_probs.equal(before)
    assert not captioner(visual, captions).log_probs.allclose(before)


def test_autocast_scores_in_fp32() -> None:
    for attention in ("sdpa", "eager"):
        captioner = tiny_encoder_decoder(attention=attention)
        visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED)
        with torch.autocast("cpu", torch.bfloat16):
            scores = captioner(visual, captions)
        assert scores.log_probs.dtype == torch.float32
        assert torch.allclose(scores.log_probs, captioner(visual, captions).log_probs, atol=0.5)


def test_device_and_dtype() -> None:
    captioner = tiny_encoder_decoder().bfloat16()
    assert captioner.dtype == torch.bfloat16
    assert captioner.device == torch.device("cpu")
    scores = captioner(captioner.preprocess(pictures(2)), captioner.tokenize(RAGGED))
    assert scores.log_probs.dtype == torch.float32


def test_layers_that_fsdp_wraps_are_named() -> None:
    assert {"GPT2Block", "BertLayer"} <= set(tiny_grid_transformer()._no_split_modules)
    assert {"GPT2Block", "ViTLayer"} <= set(tiny_encoder_decoder()._no_split_modules)
