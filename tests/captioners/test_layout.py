import pytest
import torch
from tiny import CAPTIONERS, CAPTIONS, favour_end, lay_out, pictures, tiny_encoder_decoder, tiny_grid_transformer

from captioners import CaptionTokens, GenerationSettings, VisualContext
from captioners.decoders import TextDecoder
from captioners.layout import PackedLayout, RowsLayout

SETTINGS = GenerationSettings(max_new_tokens=10)
RAGGED = [CAPTIONS[:3], CAPTIONS[3:4], CAPTIONS[1:5]]


def ragged_context(captioner, seed: int = 0) -> VisualContext:
    """Three contexts of 7 positions, the last two of the second one being padding."""
    generator = torch.Generator().manual_seed(seed)
    size = captioner.encode(captioner.preprocess(pictures(1))).states.shape[-1]
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 5:] = False
    return VisualContext(torch.randn(3, 7, size, generator=generator, dtype=captioner.dtype), mask)


def scores_and_gradients(captioner, context: VisualContext, captions: CaptionTokens, layout: str):
    captioner.layout = layout
    captioner.zero_grad()
    states = context.states.clone().requires_grad_()
    scores = captioner(VisualContext(states, context.mask), captions)
    weights = torch.linspace(-1, 1, scores.log_probs.numel()).view_as(scores.log_probs)
    (weights * scores.log_probs + 0.1 * scores.smoothing).sum().backward()
    decoder = {name: p.grad for name, p in captioner.named_parameters() if p.grad is not None}
    return scores, {"states": states.grad, **decoder}


@pytest.mark.parametrize("decoder", ["gpt2", "bert", "roberta"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_captions_score_as_separate_rows_do(decoder: str, attention: str) -> None:
    # In double precision: these weights are large, and in fp32 rounding alone reaches 2e-5.
    captioner = tiny_encoder_decoder(decoder, attention=attention).double()
    context, captions = ragged_context(captioner), captioner.tokenize(RAGGED)
    packed, packed_gradients = scores_and_gradients(captioner, context, captions, "packed")
    rows, rows_gradients = scores_and_gradients(captioner, context, captions, "rows")
    for name in ("log_probs", "entropy", "smoothing"):
        assert torch.allclose(getattr(packed, name), getattr(rows, name), atol=1e-5)
    assert packed_gradients.keys() == rows_gradients.keys()
    for name, gradient in packed_gradients.items():
        assert torch.allclose(gradient, rows_gradients[name], atol=1e-5), name


@pytest.mark.parametrize("decoder", ["gpt2", "bert", "roberta"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_steps_equal_rows_and_teacher_forcing(decoder: str, attention: str) -> None:
    captioner = tiny_encoder_decoder(decoder, attention=attention).double()
    context = ragged_context(captioner)
    tokens = torch.randint(3, 300, (3, 4, 6))
    text = TextDecoder(captioner._text_model())
    logits = []
    with torch.no_grad():
        for layout in (PackedLayout(), RowsLayout()):
            steps = layout.steps(text, context, 4, 7)
            fed = torch.cat([torch.full((3, 4, 1), captioner.codec.special.start), tokens], dim=-1)
            logits.append(torch.stack([steps.step(fed[..., t]) for t in range(7)], dim=2))
    assert torch.allclose(logits[0], logits[1], atol=1e-5)
    present = torch.ones(3, 4, dtype=torch.bool)
    captions = CaptionTokens(tokens, torch.ones_like(tokens, dtype=torch.bool), present, present)
    stepped = logits[0][:, :, :-1].log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
    assert torch.allclose(captioner(context, captions).log_probs.double(), stepped, atol=1e-5)


@pytest.mark.parametrize("layout", [PackedLayout(), RowsLayout()])
def test_a_caption_that_follows_another_continues_it(layout) -> None:
    captioner = tiny_encoder_decoder()
    context, text = ragged_context(captioner), TextDecoder(captioner._text_model())
    tokens = torch.randint(3, 300, (3, 3, 5))
    parents = [torch.randint(3, (3, 3)) for _ in range(4)]
    steps = layout.steps(text, context, 3, 5)
    history = tokens[..., :0]
    with torch.no_grad():
        for t in range(5):
            history = torch.cat([history, tokens[..., t : t + 1]], dim=-1)
            logits = steps.step(tokens[..., t])
            fresh = layout.steps(text, context, 3, 5)
            again = [fresh.step(history[..., i]) for i in range(t + 1)][-1]
            assert torch.allclose(logits, again, atol=1e-5)
            if t < 4:
                steps.follow(parents[t])
                history = history.gather(1, parents[t][..., None].expand(-1, -1, t + 1))


@pytest.mark.parametrize("layout", ["packed", "rows"])
@pytest.mark.parametrize("build", CAPTIONERS.values(), ids=CAPTIONERS)
def test_padding_changes_nothing_scores_zero_and_takes_no_gradient(build, layout: str) -> None:
    captioner = build()
    lay_out(captioner, layout)
    visual = captioner.preprocess(pictures(3))
    captions = captioner.tokenize(RAGGED)
    scores = captioner(visual, captions)
    assert scores.log_probs[~captions.mask].eq(0).all()
    assert scores.entropy[~captions.mask].eq(0).all()
    assert scores.log_probs[captions.mask].lt(0).all()
    # More padding, filled with other tokens, and a caption that is declared absent.
    more = [torch.nn.functional.pad(t, (0, 4, 0, 2)) for t in (captions.ids, captions.mask)]
    more[0][~more[1]] = 7
    more[1][0, 4] = True
    present = torch.nn.functional.pad(captions.caption_mask, (0, 2))
    padded = captioner(visual, CaptionTokens(*more, present, present))
    num_captions, length = captions.ids.shape[1:]
    assert torch.allclose(padded.log_probs[:, :num_captions, :length], scores.log_probs, atol=1e-5)
    assert padded.log_probs[:, num_captions:].eq(0).all()
    assert padded.log_probs[..., length:].eq(0).all()
    captioner.zero_grad()
    padded.log_probs[:, num_captions:].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in captioner.parameters())


def test_a_hole_in_the_mask_is_context_without_a_score() -> None:
    captioner = tiny_encoder_decoder()
    visual, captions = captioner.preprocess(pictures(1)), captioner.tokenize([CAPTIONS[:2]])
    whole = captioner(visual, captions).log_probs
    mask = captions.mask.clone()
    mask[..., :2] = False
    for layout in ("packed", "rows"):
        captioner.layout = layout
        part = captioner(visual, CaptionTokens(captions.ids, mask, captions.caption_mask, captions.finished)).log_probs
        assert torch.allclose(part, whole.masked_fill(~mask, 0), atol=1e-5)


@pytest.mark.parametrize("captions_each", [1, 5])
def test_captions_of_a_picture_do_not_see_each_other(captions_each: int) -> None:
    captioner = tiny_grid_transformer()
    visual = captioner.preprocess(pictures(2))
    captions = captioner.tokenize([CAPTIONS[:captions_each], CAPTIONS[-captions_each:]])
    together = captioner(visual, captions).log_probs
    for k in range(captions_each):
        alone = captioner(visual, CaptionTokens(*(t[:, k : k + 1] for t in vars(captions).values()))).log_probs
        assert torch.allclose(together[:, k : k + 1], alone, atol=1e-5)


def test_sampled_and_searched_captions_are_the_same_in_both_layouts() -> None:
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    context = ragged_context(captioner)
    results = []
    for layout in ("packed", "rows"):
        captioner.layout = layout
        sample = captioner.sample(context, 5, SETTINGS, torch.Generator().manual_seed(3))
        results.append((sample, captioner.beam_search(context, SETTINGS, num_return=3)))
    for packed, rows in zip(*results, strict=True):
        assert packed.ids.equal(rows.ids)
        assert packed.mask.equal(rows.mask)


@pytest.mark.parametrize("decoder", ["bart", "trocr"])
def test_a_decoder_without_position_ids_goes_in_rows(decoder: str) -> None:
    captioner = tiny_encoder_decoder(decoder)
    visual, captions = captioner.preprocess(pictures(2)), captioner.tokenize([CAPTIONS[:2], CAPTIONS[2:3]])
    scores = captioner(visual, captions).log_probs
    sample = captioner.sample(captioner.encode(visual), 2, SETTINGS, torch.Generator().manual_seed(0))
    assert sample.ids.shape == (2, 2, 10)
    captioner.layout = "packed"
    with pytest.raises(ValueError, match=f"position ids, unlike {decoder}"):
        captioner(visual, captions)
    assert scores[captions.mask].lt(0).all()


def test_long_captions_take_rows_of_their_own() -> None:
    captioner = tiny_encoder_decoder()
    text = TextDecoder(captioner._text_model())
    assert isinstance(captioner._layout(text, 512), PackedLayout)
    assert isinstance(captioner._layout(text, 513), RowsLayout)
