import pytest
import torch
from inner import as_captions, inner_generate, transition_scores
from test_layout import ragged_context, scores_and_gradients
from tiny import CAPTIONS, favour_end, in_first_decoder_layer, pictures, tiny_blip2_opt, tiny_encoder_decoder, tiny_git
from transformers import AutoProcessor, Blip2ForConditionalGeneration, GitForCausalLM, GitProcessor

import captioners
from captioners import CaptionTokens, GenerationSettings, VisualContext
from captioners.layout import PackedLayout, RowsLayout
from captioners.prefix import PrefixDecoder

RAGGED = [CAPTIONS[:3], CAPTIONS[3:4], CAPTIONS[1:5]]
GROUPS = [CAPTIONS[:2], CAPTIONS[2:4]]
SETTINGS = GenerationSettings(max_new_tokens=6, num_beams=3)
CLIPS = [pictures(4), pictures(4, seed=1)]
BUILDERS = pytest.mark.parametrize("build", [tiny_git, tiny_blip2_opt], ids=["git", "blip2-opt"])


@BUILDERS
def test_packed_captions_score_as_separate_rows_do(build) -> None:
    captioner = build().double()
    context, captions = ragged_context(captioner), captioner.tokenize(RAGGED)
    packed, packed_gradients = scores_and_gradients(captioner, context, captions, "packed")
    rows, rows_gradients = scores_and_gradients(captioner, context, captions, "rows")
    for name in ("log_probs", "entropy", "smoothing"):
        assert torch.allclose(getattr(packed, name), getattr(rows, name), atol=1e-5)
    assert packed_gradients.keys() == rows_gradients.keys()
    assert packed_gradients["states"][context.mask].ne(0).any()
    assert packed_gradients["states"][~context.mask].eq(0).all()
    for name, gradient in packed_gradients.items():
        assert torch.allclose(gradient, rows_gradients[name], atol=1e-5), name


@BUILDERS
def test_steps_from_the_shared_cache_equal_teacher_forcing(build) -> None:
    captioner = build().double()
    context, text = ragged_context(captioner), captioner._decoder()
    tokens = torch.randint(3, 300, (3, 4, 6))
    fed = torch.cat([torch.full((3, 4, 1), captioner.codec.special.start), tokens], dim=-1)
    present = torch.ones(3, 4, dtype=torch.bool)
    captions = CaptionTokens(tokens, torch.ones_like(tokens, dtype=torch.bool), present, present)
    expected = captioner(context, captions).log_probs.double()
    with torch.no_grad():
        for layout in (PackedLayout(), RowsLayout()):
            steps = layout.steps(text, context, 4, 6)
            logits = torch.stack([steps.step(fed[..., t]) for t in range(6)], dim=2)
            stepped = logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
            assert torch.allclose(stepped, expected, atol=1e-5)


@BUILDERS
@pytest.mark.parametrize("layout", [PackedLayout(), RowsLayout()])
def test_a_caption_that_follows_another_continues_it_and_pictures_leave(build, layout) -> None:
    captioner = build()
    context, text = ragged_context(captioner), captioner._decoder()
    tokens = torch.randint(3, 300, (3, 3, 4))
    parents, kept = torch.randint(3, (3, 3)), torch.tensor([1, 2])
    with torch.no_grad():
        steps, fresh = layout.steps(text, context, 3, 4), layout.steps(text, context, 3, 4)
        steps.step(tokens[..., 0])
        steps.follow(parents)
        steps.step(tokens[..., 1])
        steps.keep(kept)
        fresh.step(tokens[..., 0].gather(1, parents))
        fresh.step(tokens[..., 1])
        expected = fresh.step(tokens[..., 2])[kept]
        assert torch.allclose(steps.step(tokens[kept][..., 2]), expected, atol=1e-5)


@BUILDERS
def test_the_prefix_runs_through_the_decoder_once_a_picture(build) -> None:
    captioner = build()
    shapes: list[int] = []
    # OPT flattens rows and positions for its feed-forward layers.
    in_first_decoder_layer(captioner).register_forward_pre_hook(lambda _, args: shapes.append(args[0][..., 0].numel()))
    visual, captions = captioner.preprocess(pictures(3)), captioner.tokenize(RAGGED)
    context = captioner.encode(visual)
    prefix = 3 * context.states.shape[1]
    captioner.sample(context, 5, SETTINGS)
    assert shapes[0] == prefix
    assert set(shapes[1:]) <= {15, 10, 5}
    shapes.clear()
    captioner.beam_search(context, SETTINGS)
    assert shapes == [prefix, *[9] * (len(shapes) - 1)]
    shapes.clear()
    captioner(context, captions)
    longest = int(captions.mask.sum(dim=(1, 2)).max())
    assert shapes == [prefix, 3 * longest]
    captioner.freeze()
    captioner.train()
    captioner.gradient_checkpointing_enable()
    shapes.clear()
    captioner(context, captions)
    assert shapes == [prefix + 3 * longest]


@BUILDERS
def test_scores_are_those_of_the_models_own_loss(build) -> None:
    captioner = build()
    visual, captions = captioner.preprocess(pictures(1)), captioner.tokenize([CAPTIONS[:1]])
    config = captioner.model.config
    places = [config.image_token_index] * config.num_query_tokens if build is tiny_blip2_opt else []
    ids = torch.cat([torch.tensor([*places, captioner.codec.special.start]), captions.ids[0, 0]])[None]
    labels = torch.where(torch.arange(ids.shape[1]) < len(places) + 1, -100, ids)
    loss = captioner.model(**visual, input_ids=ids, labels=labels).loss
    assert torch.allclose(-captioner(visual, captions).log_probs.mean(), loss, atol=1e-5)


@BUILDERS
def test_a_prompt_is_fed_saved_and_neither_scored_nor_told(build, tmp_path) -> None:
    captioner = build(prompt="a dog runs")
    favour_end(captioner)
    visual = captioner.preprocess(pictures(2))
    output = inner_generate(captioner, visual, do_sample=True, top_k=0, num_return_sequences=2, max_new_tokens=6)
    captions = as_captions(captioner, output.sequences, 2)
    expected = transition_scores(captioner, output).view(captions.ids.shape).masked_fill(~captions.mask, 0)
    assert torch.allclose(captioner(visual, captions).log_probs, expected, atol=1e-4)
    assert captioner.codec.limit == build().codec.limit - len(captioner.codec.special.prefix)
    assert captioner.decode(captioner.tokenize([["a red ball"]])) == [["a red ball"]]
    captioner.save_pretrained(tmp_path)
    assert captioners.load(tmp_path).codec.special == captioner.codec.special
    without = captioners.load(tmp_path, prompt="")
    assert without.codec.special.prefix == ()
    assert not without(visual, captions).log_probs.allclose(expected, atol=1e-2)
    with pytest.raises(ValueError, match="caption 0 of picture 0 in the batch is empty"):
        captioner.tokenize([[" "]])


@BUILDERS
def test_plain_transformers_loads_what_is_saved(build, tmp_path) -> None:
    captioner = build(max_frames=3)
    captioner.save_pretrained(tmp_path)
    model_class = GitForCausalLM if build is tiny_git else Blip2ForConditionalGeneration
    model, processor = model_class.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    pixels = processor(images=pictures(2), return_tensors="pt")["pixel_values"]
    greedy = captioner.greedy(captioner.encode({"pixel_values": pixels}), SETTINGS)
    texts = processor.batch_decode(model.generate(pixel_values=pixels, max_new_tokens=6), skip_special_tokens=True)
    assert [text.strip() for text in texts] == [text for (text,) in captioner.decode(greedy)]
    assert all(texts)


def test_git_loads_with_what_its_processor_saved(tmp_path) -> None:
    captioner = tiny_git()
    captioner.model.save_pretrained(tmp_path)
    GitProcessor(captioner.processor, captioner.codec.tokenizer).save_pretrained(tmp_path)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize(GROUPS)
    assert captioners.load(tmp_path)(visual, captions).log_probs.equal(captioner(visual, captions).log_probs)


def video_git(**options) -> captioners.Git:
    captioner = tiny_git(own_frames=4, **options)
    with torch.no_grad():
        for embedding in captioner.model.git.img_temporal_embedding:
            embedding.normal_()
    return captioner


def test_clips_go_through_gits_own_video_input() -> None:
    captioner = video_git()
    assert captioner.temporal is None
    visual = captioner.preprocess(CLIPS)
    output = inner_generate(captioner, visual, do_sample=True, top_k=0, max_new_tokens=8)
    captions = as_captions(captioner, output.sequences, 1)
    expected = transition_scores(captioner, output).view(captions.ids.shape).masked_fill(~captions.mask, 0)
    assert torch.allclose(captioner(visual, captions).log_probs, expected, atol=1e-4)
    greedy = captioner.greedy(captioner.encode(visual), SETTINGS)
    theirs = inner_generate(captioner, visual, do_sample=False, max_new_tokens=6)
    assert as_captions(captioner, theirs.sequences, 1).ids.equal(greedy.ids)
    backwards = captioner.preprocess([clip[::-1] for clip in CLIPS])
    assert (captioner(backwards, captions).log_probs - expected).abs().max() > 1e-2


def test_pictures_and_shorter_clips_of_a_git_of_clips() -> None:
    captioner, still = video_git(), tiny_git()
    captions = captioner.tokenize(GROUPS)
    pixels = captioner.preprocess(pictures(2))
    # The seed draws the same weights: the embedding of frames is no random one.
    assert captioner(pixels, captions).log_probs.equal(still(pixels, captions).log_probs)
    visual = captioner.preprocess([CLIPS[0], CLIPS[1][:2]])
    scores = captioner(visual, captions).log_probs
    alone = captioner(captioner.preprocess([CLIPS[1][:2]]), captioner.tokenize(GROUPS[1:])).log_probs
    assert torch.allclose(scores[1:, :, : alone.shape[-1]], alone, atol=1e-4)
    stored = {"features": captioner.features(visual), "frame_mask": visual["frame_mask"]}
    assert torch.allclose(captioner(stored, captions).log_probs, scores, atol=1e-4)
    with pytest.raises(ValueError, match="a clip has 5 frames; this captioner was made for at most 4"):
        captioner.encode(captioner.preprocess([pictures(5)]))


def test_gits_own_embedding_trains_is_saved_and_grows(tmp_path) -> None:
    captioner = video_git(tied=True)
    held = [id(p) for modules in captioner.parts().values() for module in modules for p in module.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in captioner.parameters()}
    captioner.freeze("vision", "decoder")
    captioner.train()
    visual, captions = captioner.preprocess(CLIPS), captioner.tokenize(GROUPS)
    scores = captioner(visual, captions).log_probs
    scores.sum().backward()
    assert all(embedding.grad.any() for embedding in captioner.model.git.img_temporal_embedding)
    captioner.eval().save_pretrained(tmp_path)
    expected = captioner(visual, captions).log_probs
    assert captioners.load(tmp_path)(visual, captions).log_probs.equal(expected)
    longer = captioners.load(tmp_path, max_frames=5)
    assert longer(visual, captions).log_probs.equal(expected)
    assert not longer.model.git.img_temporal_embedding[4].any()
    longer.save_pretrained(tmp_path)
    assert GitForCausalLM.from_pretrained(tmp_path).config.num_image_with_embedding == 5
    with pytest.raises(ValueError, match="max_frames is 3, but the model's own embedding is of 5 frames"):
        captioners.load(tmp_path, max_frames=3)


def test_what_a_decoder_cannot_read_is_named() -> None:
    with pytest.raises(ValueError, match="the decoder is a 'gpt2'; decoders that read a prefix are git, opt"):
        PrefixDecoder(tiny_encoder_decoder().model.decoder)
    # 36 positions, 3 queries a frame.
    assert tiny_blip2_opt(max_frames=11).codec.limit == 3
    with pytest.raises(ValueError, match="36 positions, of which the picture's 36 leave no caption"):
        tiny_blip2_opt(max_frames=12)


@BUILDERS
def test_autocast_scores_in_fp32(build) -> None:
    captioner = build()
    visual, captions = captioner.preprocess(pictures(3)), captioner.tokenize(RAGGED)
    with torch.autocast("cpu", torch.bfloat16):
        context = captioner.encode(visual)
        assert isinstance(context, VisualContext)
        captioner.sample(context, 2, SETTINGS)
        scores = captioner(context, captions).log_probs
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, captioner(visual, captions).log_probs, atol=0.5)
