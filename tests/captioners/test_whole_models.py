"""BLIP, Florence-2 and BLIP-2 with T5: what plain transformers sees in them, and what their prompts do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from inner import as_captions, inner_generate, prompt_inputs, transition_scores
from tiny import (
    CAPTIONS,
    pictures,
    tiny_blip,
    tiny_blip2_t5,
    tiny_encoder_decoder,
    tiny_florence2,
    tiny_grid_transformer,
)
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText, AutoProcessor

import captioners
from captioners import Captioner, CaptionTokens, GenerationSettings

BUILDERS = {"blip": tiny_blip, "florence2": tiny_florence2, "blip2-t5": tiny_blip2_t5}
EACH = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
PROMPTS = {"blip": "a dog", "florence2": "<DETAILED_CAPTION>", "blip2-t5": "a picture of"}
SETTINGS = GenerationSettings(max_new_tokens=6)
GROUPS = [CAPTIONS[:2], CAPTIONS[2:3]]


def fed(captioner: Captioner, captions: CaptionTokens) -> Tensor:
    """Captions of K = 1 behind start and prefix, [B, S]: what a decoder is fed, and the last token."""
    special = captioner.codec.special
    begin = torch.tensor([special.start, *special.prefix]).expand(len(captions.ids), -1)
    return torch.cat([begin, captions.ids[:, 0]], dim=1)


def words(captioner: Any, number: int) -> dict[str, Tensor]:
    """What the language model's encoder reads beside `number` pictures, as the model's own forward takes it."""
    config = captioner.model.config
    if config.model_type == "blip-2" and captioner.prompt is None:
        row = [config.image_token_index] * config.num_query_tokens + [config.text_config.bos_token_id]
        return {"input_ids": torch.tensor([row] * number)}
    return prompt_inputs(captioner, number)


def inner_logits(captioner: Any, visual: dict[str, Tensor], ids: Tensor) -> Tensor:
    """The logits of the model's own forward, [B, S, V], for decoder inputs [B, S]."""
    if captioner.model.config.model_type == "blip":
        return captioner.model(**visual, input_ids=ids).logits
    return captioner.model(**visual, **words(captioner, len(ids)), decoder_input_ids=ids).logits


@EACH
def test_forward_is_right_where_the_models_loss_is_not(build) -> None:
    captioner = build()
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize([[CAPTIONS[0]], [CAPTIONS[1]]])
    special = captioner.codec.special
    tokens, begun = fed(captioner, captions), 1 + len(special.prefix)
    with torch.no_grad():
        # Token by token, each from nothing but the ones before it: no shift can be wrong here.
        steps = [inner_logits(captioner, visual, tokens[:, :end])[:, -1] for end in range(begun, tokens.shape[1])]
        log_p = torch.stack(steps, dim=1).log_softmax(-1).gather(-1, captions.ids[:, 0, :, None]).squeeze(-1)
        expected = log_p.masked_fill(~captions.mask[:, 0], 0)
        scores = captioner(visual, captions)
        assert torch.allclose(scores.log_probs[:, 0], expected, atol=1e-4)
        right = -expected.sum() / captions.mask.sum()
        assert torch.isclose(-scores.log_probs.sum() / captions.mask.sum(), right, atol=1e-4)

        # What a batch of padded captions gives as labels: padding counts, and BLIP shifts what is already aligned.
        if captioner.model.config.model_type == "blip":
            loss = captioner.model(**visual, input_ids=tokens[:, :-1], labels=captions.ids[:, 0]).loss
            logits = inner_logits(captioner, visual, tokens[:, :-1])[:, :-1]
            shifted = cross_entropy(logits.flatten(0, 1), captions.ids[:, 0, 1:].flatten())
            assert torch.isclose(loss, shifted, atol=1e-4)
        else:
            loss = captioner.model(**visual, **words(captioner, 2), labels=captions.ids[:, 0]).loss
        assert (loss - right).abs() > 5e-3


@EACH
@pytest.mark.parametrize("prompted", [False, True])
def test_plain_transformers_loads_an_export_and_captions_alike(build, prompted: bool, tmp_path: Path) -> None:
    name = next(name for name, builder in BUILDERS.items() if builder is build)
    captioner = build(prompt=PROMPTS[name] if prompted else None, max_frames=2)
    captioner.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    text = {} if captioner.prompt is None else {"text": [captioner.prompt] * 2}
    inputs = processor(images=pictures(2), return_tensors="pt", **text)
    new_tokens = 6 + captioner.codec.special.forced
    ids = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False, num_beams=1)
    visual = captioner.preprocess(pictures(2))
    greedy = captioner.greedy(captioner.encode(visual), SETTINGS)
    assert as_captions(captioner, ids, 1).ids.equal(greedy.ids)
    captions = ids[:, 1 + len(captioner.codec.special.prefix) :]
    texts = [text.strip() for text in processor.batch_decode(captions, skip_special_tokens=True)]
    assert captioner.decode(greedy) == [[text] for text in texts]


@EACH
def test_a_prompt_conditions_is_not_scored_and_is_kept(build, tmp_path: Path) -> None:
    name = next(name for name, builder in BUILDERS.items() if builder is build)
    captioner = build()
    captioner.save_pretrained(tmp_path / "plain")
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(GROUPS)
    unprompted = captioner(visual, captions).log_probs
    loaded = captioners.load(tmp_path / "plain", prompt=PROMPTS[name])
    assert loaded.prompt == PROMPTS[name]
    assert loaded.tokenize(GROUPS).ids.equal(captions.ids)
    prompted = loaded(visual, captions).log_probs
    assert prompted.shape == unprompted.shape
    assert (prompted - unprompted).abs().max() > 1e-3
    loaded.save_pretrained(tmp_path / "prompted")
    again = captioners.load(tmp_path / "prompted")
    assert again.prompt == PROMPTS[name]
    assert again(visual, captions).log_probs.equal(prompted)
    # Another one, and none, where one is stored.
    assert captioners.load(tmp_path / "prompted", prompt="two dogs").prompt == "two dogs"
    without = captioners.load(tmp_path / "prompted", prompt="")
    assert without.prompt == ""
    if name != "florence2":
        assert without(visual, captions).log_probs.equal(unprompted)
    (tmp_path / "prompted" / "prompt.json").write_text("[]")
    with pytest.raises(ValueError, match=r"prompt\.json must hold"):
        captioners.load(tmp_path / "prompted")


def test_defaults_of_prompts() -> None:
    assert tiny_blip().prompt is None
    assert tiny_blip2_t5().prompt is None
    assert tiny_florence2().prompt == "<CAPTION>"
    # The task as its processor puts it, between <s> and </s>.
    captioner = tiny_florence2()
    tokenizer, ids = captioner.codec.tokenizer, captioner.prompt_ids.tolist()
    assert [ids[0], ids[-1]] == [tokenizer.bos_token_id, tokenizer.eos_token_id]
    assert tokenizer.decode(ids[1:-1]).strip() == "what does the image describe"


@pytest.mark.parametrize("build", [tiny_encoder_decoder, tiny_grid_transformer])
def test_a_model_without_prompts_refuses_one(build, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"prompt is 'a dog', but .* which takes none"):
        captioners.load(tmp_path, prompt="a dog")


def test_a_prompt_takes_positions_of_blip() -> None:
    captioner = tiny_blip(prompt="a dog")
    assert captioner.codec.limit == tiny_blip().codec.limit - 2
    context = captioner.encode(captioner.preprocess(pictures(1)))
    longest = GenerationSettings(max_new_tokens=captioner.codec.limit)
    assert captioner.greedy(context, longest).ids.shape[-1] == captioner.codec.limit


@pytest.mark.parametrize("prompt", [None, "a dog"])
def test_packed_captions_of_blip_score_as_separate_rows_do(prompt: str | None) -> None:
    captioner = tiny_blip(prompt=prompt, max_frames=2).double()
    visual = captioner.preprocess([pictures(2), pictures(1, seed=1)])
    captions = captioner.tokenize(GROUPS)
    found = []
    for layout in ("packed", "rows"):
        captioner.layout = layout
        context = captioner.encode(visual)
        sample = captioner.sample(context, 3, SETTINGS, torch.Generator().manual_seed(0))
        found.append((captioner(context, captions).log_probs, sample.ids, captioner.beam_search(context, SETTINGS).ids))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert found[0][1].equal(found[1][1])
    assert found[0][2].equal(found[1][2])


def test_the_first_t5_shrinks_what_goes_into_its_head(tmp_path: Path) -> None:
    captioner = tiny_blip2_t5(flan=False)
    captioner.save_pretrained(tmp_path)
    for one in (captioner, captioners.load(tmp_path)):
        assert one.model.language_model.config.scale_decoder_outputs
        visual = one.preprocess(pictures(2))
        output = inner_generate(one, visual, do_sample=True, top_k=0, max_new_tokens=8)
        captions = as_captions(one, output.sequences, 1)
        expected = transition_scores(one, output).view(captions.ids.shape).masked_fill(~captions.mask, 0)
        assert torch.allclose(one(visual, captions).log_probs, expected, atol=1e-4)
    assert not tiny_blip2_t5().model.language_model.config.scale_decoder_outputs


def test_what_blip2_and_florence2_cannot_work_with_is_named() -> None:
    captioner = tiny_blip2_t5()
    captioner.model.config.text_config.bos_token_id = None
    with pytest.raises(ValueError, match=r"no text_config\.bos_token_id, which stands for no prompt"):
        type(captioner)(captioner.model, captioner.processor)
    florence = tiny_florence2()
    with pytest.raises(ValueError, match="the grid has 5 positions, which are no square"):
        florence.encode({"features": torch.zeros(1, 1, 5, 16)})
    florence.model.config.text_config.model_type = "mbart"
    with pytest.raises(ValueError, match="the language model is a 'mbart'; Florence-2 is supported with 'bart'"):
        type(florence)(florence.model, florence.processor)


@pytest.mark.parametrize("build", [tiny_florence2, tiny_blip2_t5])
def test_the_language_encoder_trains_with_the_decoder(build) -> None:
    captioner = build()
    captioner.freeze("vision", "connector")
    captioner.train()
    captioner(captioner.preprocess(pictures(2)), captioner.tokenize(GROUPS)).log_probs.sum().backward()
    language = captioner.model.model.language_model if build is tiny_florence2 else captioner.model.language_model
    assert all(p.grad is not None and p.grad.any() for n, p in language.encoder.named_parameters() if "layer_norm" in n)
