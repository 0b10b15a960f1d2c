"""Chat models: one prefix for the captions of a picture, against the model's own forward once for each caption."""

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import (
    CAPTIONS,
    in_first_decoder_layer,
    pictures,
    tiny_idefics3,
    tiny_llava,
    tiny_llava_next,
    tiny_llava_onevision,
    tiny_qwen2_vl,
)
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

import captioners
from captioners import CaptionTokens, Chat, GenerationSettings
from captioners.chat_template import render

FAMILIES = {
    "qwen2-vl": tiny_qwen2_vl,
    "qwen2.5-vl": partial(tiny_qwen2_vl, newer=True),
    "idefics3": tiny_idefics3,
    "smolvlm": partial(tiny_idefics3, smol=True),
    "llava": tiny_llava,
    "llava-next": tiny_llava_next,
    "llava-onevision": tiny_llava_onevision,
}
EACH = pytest.mark.parametrize("name", FAMILIES)
THREE = pytest.mark.parametrize("name", ["qwen2-vl", "idefics3", "llava"])
RAGGED = [CAPTIONS[:3], CAPTIONS[3:4], CAPTIONS[1:5]]
SETTINGS = GenerationSettings(max_new_tokens=5)


def built(name: str, **options: Any) -> Chat:
    if name == "smolvlm":
        pytest.importorskip("num2words", reason="the processor of SmolVLM needs num2words (extra: chat)")
    return FAMILIES[name](**options)


def sized(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def shapes() -> list[Image.Image]:
    """Pictures whose prefixes differ in length where the model sees them in their own size."""
    return [sized(16, 16, 0), sized(40, 16, 1), sized(40, 40, 2)]


def separate(captioner: Chat, visuals: list[Any], captions: CaptionTokens) -> Tensor:
    """Log-probabilities [B, K, L] by the model's own forward, its prompt and one caption at a time."""
    processor = captioner.processor
    rows = []
    for b, visual in enumerate(visuals):
        frames = visual if isinstance(visual, list) else [visual]
        text = render(processor, captioner.prompt, len(frames)).removeprefix("<bos>")
        prompt = dict(processor(text=[text], images=[frames], return_tensors="pt"))
        prompt["pixel_values"] = prompt["pixel_values"].to(captioner.dtype)
        own = []
        for k in range(captions.ids.shape[1]):
            length = int(captions.mask[b, k].sum()) if captions.caption_mask[b, k] else 0
            inputs, ids = dict(prompt), captions.ids[b, k : k + 1]
            inputs["input_ids"] = torch.cat([prompt["input_ids"], ids[:, :length]], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in prompt:
                inputs["mm_token_type_ids"] = torch.nn.functional.pad(prompt["mm_token_type_ids"], (0, length))
            log_p = captioner.model(**inputs).logits[:, prompt["input_ids"].shape[1] - 1 :].log_softmax(-1)
            found = log_p[:, :length].gather(-1, ids[:, :length, None]).squeeze(-1)[0]
            own.append(torch.nn.functional.pad(found, (0, ids.shape[1] - length)))
        rows.append(torch.stack(own))
    return torch.stack(rows)


def gradients(captioner: Chat, log_probs: Tensor) -> dict[str, Tensor]:
    captioner.zero_grad()
    weights = torch.linspace(-1, 1, log_probs.numel(), dtype=log_probs.dtype).view_as(log_probs)
    (weights * log_probs).sum().backward()
    return {name: p.grad.clone() for name, p in captioner.named_parameters() if p.grad is not None}


@EACH
@pytest.mark.parametrize(
    ("way", "clips"),
    [("shared cache", False), ("shared cache", True), ("cache in rows", False), ("packed under checkpointing", False)],
)
def test_one_prefix_equals_a_forward_a_caption(name: str, way: str, clips: bool) -> None:
    captioner = built(name).double()
    captioner.freeze()
    captioner.train()
    captioner.dropout_off = True
    visuals = [pictures(2), pictures(1, seed=1), pictures(3, seed=2)] if clips else shapes()
    captions = captioner.tokenize(RAGGED)
    expected = separate(captioner, visuals, captions)
    theirs = gradients(captioner, expected)
    if way == "cache in rows":
        captioner.layout = "rows"
    if way == "packed under checkpointing":
        captioner.gradient_checkpointing_enable()
    found = captioner(captioner.preprocess(visuals), captions).log_probs
    assert torch.allclose(found.double(), expected, atol=1e-5)
    ours = gradients(captioner, found)
    assert ours.keys() == theirs.keys()
    assert {n for n, p in captioner.named_parameters() if p.requires_grad} == ours.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-4), name


@THREE
def test_the_prefix_runs_once_a_chain(name: str) -> None:
    captioner = built(name)
    captioner.freeze()
    captioner.train()
    captioner.dropout_off = True
    seen: list[int] = []
    # Told apart by what it is given: one run a call, of so many positions.
    in_first_decoder_layer(captioner).register_forward_pre_hook(lambda _, args: seen.append(args[0][..., 0].numel()))
    visual, captions = captioner.preprocess(shapes()), captioner.tokenize(RAGGED)
    prefix, tokens = visual["prompt_ids"].numel(), 3 * int(captions.mask.sum(dim=(1, 2)).max())
    captioner(visual, captions)
    assert seen == [prefix, tokens]
    seen.clear()
    captioner.layout = "rows"
    captioner(visual, captions)
    assert seen == [prefix, int(captions.caption_mask.sum()) * captions.ids.shape[-1]]
    seen.clear()
    captioner.layout = "auto"
    captioner.gradient_checkpointing_enable()
    captioner(visual, captions)
    assert seen == [prefix + tokens]
    seen.clear()
    # A context is what the picture gives: with it nothing of the picture runs again.
    captioner.sample(captioner.encode(visual), 4, SETTINGS)
    assert seen == [prefix, *[12] * (len(seen) - 1)]


@THREE
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_says_what_each_picture_says_alone(name: str, side: str) -> None:
    captioner = built(name)
    captioner.codec.tokenizer.padding_side = side
    visuals = [*shapes(), pictures(2)]
    captions = captioner.tokenize([*RAGGED, CAPTIONS[:2]])
    visual = captioner.preprocess(visuals)
    lengths = visual["prompt_mask"].sum(dim=1)
    assert lengths.min() < lengths.max() == visual["prompt_ids"].shape[1]
    context = captioner.encode(visual)
    scores = captioner(context, captions).log_probs
    sample = captioner.sample(context, 3, SETTINGS, torch.Generator().manual_seed(0))
    searched = captioner.beam_search(context, SETTINGS)
    for b in range(4):
        alone = captioner.encode(captioner.preprocess(visuals[b : b + 1]))
        own = CaptionTokens(*(t[b : b + 1] for t in vars(captions).values()))
        assert torch.allclose(captioner(alone, own).log_probs[0], scores[b], atol=1e-5)
        drawn = CaptionTokens(*(t[b : b + 1] for t in vars(sample).values()))
        again = captioner(context.pick(slice(b, b + 1)), drawn).log_probs
        assert torch.allclose(captioner(alone, drawn).log_probs, again, atol=1e-5)
        best = captioner.beam_search(alone, SETTINGS)
        assert best.ids[0].equal(searched.ids[b, :, : best.ids.shape[-1]])


def test_positions_have_rows_and_columns_and_captions_go_on_behind_them() -> None:
    captioner = tiny_qwen2_vl()
    visual = captioner.preprocess(shapes())
    context = captioner.encode(visual)
    assert context.positions.shape == (*visual["prompt_ids"].shape, 3)
    # 40 x 40 pixels are 5 x 5 tokens that take 5 positions.
    places = visual["prompt_ids"][2] == captioner.model.config.image_token_id
    assert places.sum() == 25
    last = context.positions[2][visual["prompt_mask"][2]].max()
    assert last == visual["prompt_mask"][2].sum() - 1 - (25 - 5)
    # Positions that are not told, as if the grid were a line, say something else.
    captions = captioner.tokenize(RAGGED)
    counted = type(context)(context.states, context.mask, context.words)
    assert (captioner(context, captions).log_probs - captioner(counted, captions).log_probs).abs().max() > 1e-2


@EACH
def test_plain_transformers_loads_an_export_and_answers_alike(name: str, tmp_path) -> None:
    captioner = built(name, prompt="A red ball?")
    captioner.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "A red ball?"}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True).removeprefix("<bos>")
    inputs = processor(text=[text], images=[pictures(1)], return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    greedy = captioner.greedy(captioner.encode(captioner.preprocess(pictures(1))), SETTINGS)
    assert ids.equal(greedy.ids[0])
    loaded = captioners.load(tmp_path)
    assert isinstance(loaded, Chat)
    assert loaded.prompt == "A red ball?"
    assert loaded.codec.special == captioner.codec.special


def test_what_a_caption_begins_and_ends_with() -> None:
    qwen, idefics, llava = tiny_qwen2_vl(), tiny_idefics3(), tiny_llava()
    names = [one.codec.tokenizer.convert_ids_to_tokens(one.codec.special.eos) for one in (qwen, idefics, llava)]
    # The token that closes a turn; LLaVA's template has none, and its model says EOS.
    assert names == ["<|im_end|>", "<end_of_utterance>", "<eos>"]
    # Behind "Assistant:" comes a space, behind a line break none.
    assert [one.codec.before for one in (qwen, idefics, llava)] == ["", " ", " "]
    for one in (qwen, idefics, llava):
        whole = render(one.processor, one.prompt, 1, "a red ball")
        ids = one.codec.tokenizer(whole, add_special_tokens=False)["input_ids"]
        caption = one.tokenize([["a red ball"]]).ids[0, 0, :-1].tolist()
        begun = [one.codec.special.start, *caption]
        assert begun in [ids[i : i + len(begun)] for i in range(len(ids))]
        assert one.decode(one.tokenize([["a red ball"]])) == [["a red ball"]]


def test_the_instruction_conditions_and_is_kept(tmp_path) -> None:
    captioner = tiny_llava()
    assert captioner.prompt == "Describe this image in one sentence."
    captioner.save_pretrained(tmp_path)
    captions = captioner.tokenize([CAPTIONS[:2]])
    said = []
    for prompt in (None, "two dogs", ""):
        loaded = captioners.load(tmp_path, prompt=prompt)
        said.append(loaded(loaded.preprocess(pictures(1)), captions).log_probs)
    assert torch.allclose(said[0], captioner(captioner.preprocess(pictures(1)), captions).log_probs, atol=1e-6)
    assert (said[0] - said[1]).abs().max() > 1e-2
    assert (said[1] - said[2]).abs().max() > 1e-2


@THREE
def test_frames_are_seen_in_order(name: str) -> None:
    captioner = built(name)
    clip, captions = pictures(3), captioner.tokenize([CAPTIONS[:2]])
    forwards = captioner(captioner.preprocess([clip]), captions).log_probs
    backwards = captioner(captioner.preprocess([clip[::-1]]), captions).log_probs
    assert (forwards - backwards).abs().max() > 1e-2
    assert captioner.encode(captioner.preprocess([clip])).states.shape[0] == 1


def test_words_of_the_prompt_are_the_decoders() -> None:
    captioner = tiny_llava()
    captioner.freeze("vision", "connector")
    captioner.train()
    captioner.dropout_off = True
    visual, captions = captioner.preprocess(shapes()), captioner.tokenize(RAGGED)
    with torch.no_grad():
        context = captioner.encode(visual)
    # So a finished context stands in for the picture, and the prompt's words still learn.
    found = gradients(captioner, captioner(context, captions).log_probs)
    expected = gradients(captioner, captioner(visual, captions).log_probs)
    assert found.keys() == expected.keys()
    words = "model.model.language_model.embed_tokens.weight"
    assert found[words][visual["prompt_ids"][0, 1]].any()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-4), name


def test_the_preprocessor_goes_to_data_workers() -> None:
    captioner = tiny_qwen2_vl()
    there = pickle.loads(pickle.dumps(captioner.preprocessor))
    for name, tensor in captioner.preprocess(shapes()).items():
        assert there(shapes())[name].equal(tensor)


def test_what_chat_models_cannot_work_with_is_named() -> None:
    captioner = tiny_qwen2_vl(max_frames=2)
    with pytest.raises(ValueError, match="clip 1 has 3 frames; this captioner was made for at most 2"):
        captioner.preprocess([pictures(1), pictures(3)])
    captions = captioner.tokenize([CAPTIONS[:1]])
    context = captioner.encode(captioner.preprocess(pictures(1)))
    captioner.model.config.text_config.max_position_embeddings = 50
    with pytest.raises(ValueError, match="has 50 positions, but pictures and prompt take 43 and a caption"):
        captioner(context, captions)
    with pytest.raises(ValueError, match="and a caption 12"):
        captioner.greedy(context, GenerationSettings(max_new_tokens=12))
    visual = captioner.preprocess(pictures(2))
    visual["prompt_mask"][0, 5:] = False
    with pytest.raises(ValueError, match="the prompts have 4 places for pictures, which give 8 states"):
        captioner.encode(visual)
    captioner.processor.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        Chat(captioner.model, captioner.processor)


def test_a_missing_package_of_the_processor_is_named(tmp_path, monkeypatch) -> None:
    built("smolvlm").save_pretrained(tmp_path)
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(ValueError, match=r"Package `num2words` is required .* \(extra: rlcap\[chat\]\)"):
        captioners.load(tmp_path)
