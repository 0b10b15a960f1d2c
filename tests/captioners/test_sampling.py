import pytest
import torch
from inner import as_captions, inner_generate
from tiny import ALL_CAPTIONERS, VOCAB, favour_end, pictures, tiny_encoder_decoder

from captioners import GenerationSettings, VisualContext
from captioners.layout import PackedSteps, RowSteps
from captioners.sampling import sampled

SETTINGS = GenerationSettings(max_new_tokens=12)
EVERY = pytest.mark.parametrize("build", ALL_CAPTIONERS.values(), ids=ALL_CAPTIONERS)


@EVERY
def test_greedy_equals_generate(build) -> None:
    captioner = build()
    favour_end(captioner)
    visual = captioner.preprocess(pictures(6))
    ours = captioner.greedy(captioner.encode(visual), SETTINGS)
    output = inner_generate(captioner, visual, do_sample=False, num_beams=1, max_new_tokens=12)
    theirs = as_captions(captioner, output.sequences, 1)
    assert ours.ids.equal(theirs.ids)
    assert ours.mask.equal(theirs.mask)
    assert ours.finished.equal(theirs.finished)


@EVERY
def test_what_is_sampled_depends_on_the_generator_alone_and_is_what_is_scored(build) -> None:
    captioner = build()
    favour_end(captioner)
    context = captioner.encode(captioner.preprocess(pictures(3)))
    first = captioner.sample(context, 4, SETTINGS, torch.Generator().manual_seed(5))
    torch.rand(7)
    captioner.train()
    second = captioner.sample(context, 4, SETTINGS, torch.Generator().manual_seed(5))
    assert captioner.training
    other = captioner.sample(context, 4, SETTINGS, torch.Generator().manual_seed(6))
    assert first.ids.equal(second.ids)
    assert not (first.ids.shape == other.ids.shape and first.ids.equal(other.ids))
    # EOS is in the mask and ends it; what did not end has the full length.
    eos = captioner.codec.special.eos
    assert 0 < int(first.finished.sum()) < first.finished.numel()
    lengths = first.mask.sum(-1)
    last = first.ids.gather(2, lengths[..., None] - 1).squeeze(2)
    assert (last == eos).equal(first.finished)
    assert lengths[~first.finished].eq(SETTINGS.max_new_tokens).all()
    assert ((first.ids == eos) & first.mask).sum() == first.finished.sum()
    assert first.ids[~first.mask].eq(captioner.codec.special.pad).all()
    assert first.mask.any(1).any(0).all()


@EVERY
def test_the_greedy_caption_comes_behind_samples_that_stay_what_they_are(build) -> None:
    captioner = build()
    favour_end(captioner)
    context = captioner.encode(captioner.preprocess(pictures(4)))
    alone = captioner.sample(context, 3, SETTINGS, torch.Generator().manual_seed(5))
    both = captioner.sample(context, 3, SETTINGS, torch.Generator().manual_seed(5), greedy=True)
    for part, expected in ((slice(3), alone), (slice(3, None), captioner.greedy(context, SETTINGS))):
        found = both.pick(part)
        assert found.ids.equal(expected.ids)
        assert found.mask.equal(expected.mask)
        assert found.finished.equal(expected.finished)


def test_the_generator_advances_alike_wherever_captions_end() -> None:
    captioner = tiny_encoder_decoder()
    context = captioner.encode(captioner.preprocess(pictures(2)))
    states = []
    for amount in (0.0, 50.0):
        favour_end(captioner, amount)
        generator = torch.Generator().manual_seed(1)
        captioner.sample(context, 3, SETTINGS, generator)
        states.append(generator.get_state())
    assert states[0].equal(states[1])


def first_token_counts(logits: torch.Tensor, settings: GenerationSettings, draws: int = 40_000) -> torch.Tensor:
    choose = sampled((1, draws), settings, torch.Generator().manual_seed(0), torch.device("cpu"))
    return torch.bincount(
        choose(0, logits.expand(1, draws, -1), torch.zeros(1, dtype=torch.long)).flatten(), minlength=len(logits)
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    logits = torch.randn(12)
    counts = first_token_counts(logits, GenerationSettings(temperature=temperature))
    expected = (logits / temperature).softmax(-1) * counts.sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # 99.9 % quantile of chi-square with 11 degrees of freedom.
    assert chi_square < 31.3


def test_first_tokens_of_a_captioner_follow_its_scores() -> None:
    captioner = tiny_encoder_decoder()
    context = captioner.encode(captioner.preprocess(pictures(1)))
    sample = captioner.sample(context, 4000, GenerationSettings(max_new_tokens=1), torch.Generator().manual_seed(0))
    scores = captioner(context, sample).log_probs[0, :, 0].detach()
    counts = torch.bincount(sample.ids[0, :, 0], minlength=VOCAB)
    for token in counts.argsort(descending=True)[:5].tolist():
        probability = scores[sample.ids[0, :, 0] == token][0].exp().item()
        error = (probability * (1 - probability) / 4000) ** 0.5
        assert abs(counts[token].item() / 4000 - probability) < 4 * error


def test_top_k_and_top_p_restrict_the_support() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04]).log()
    assert first_token_counts(logits, GenerationSettings(top_k=2)).gt(0).tolist() == [True, True, False, False, False]
    assert first_token_counts(logits, GenerationSettings(top_k=99)).gt(0).all()
    # The smallest set of most likely tokens that reaches 0.75 has three.
    counts = first_token_counts(logits[[3, 0, 4, 2, 1]], GenerationSettings(top_p=0.75))
    assert counts.gt(0).tolist() == [False, True, False, True, True]
    assert counts[1].item() / counts.sum().item() == pytest.approx(0.4 / 0.9, abs=0.01)
    assert first_token_counts(logits, GenerationSettings(top_p=0.01)).gt(0).tolist() == [True, *[False] * 4]


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_pictures_that_leave_the_batch_early_change_nothing(layout: str, monkeypatch) -> None:
    captioner = tiny_encoder_decoder()
    captioner.layout = layout
    favour_end(captioner, 6.0)
    context = captioner.encode(captioner.preprocess(pictures(8)))
    kept = []
    for steps in (PackedSteps, RowSteps):
        original = steps.keep
        monkeypatch.setattr(steps, "keep", lambda self, p, original=original: (kept.append(len(p)), original(self, p)))
    left = captioner.sample(context, 2, SETTINGS, torch.Generator().manual_seed(2))
    assert len(kept) >= 2
    assert kept == sorted(kept, reverse=True)
    monkeypatch.setattr("captioners.sampling.DROP_SHARE", 2.0)
    stayed = captioner.sample(context, 2, SETTINGS, torch.Generator().manual_seed(2))
    assert left.ids.equal(stayed.ids)
    assert left.mask.equal(stayed.mask)
    assert left.finished.equal(stayed.finished)


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((50,), -torch.inf)
    logits[[0, 49]] = 0.0
    counts = first_token_counts(torch.cat([logits, torch.full((3,), -torch.inf)]), GenerationSettings())
    assert counts[[0, 49]].sum() == counts.sum()
    assert counts[0].item() / counts.sum().item() == pytest.approx(0.5, abs=0.02)


def test_sampling_restores_each_modules_mode_and_has_no_dropout() -> None:
    captioner = tiny_encoder_decoder(dropout=0.5)
    captioner.freeze("vision")
    captioner.train()
    before = [module.training for module in captioner.modules()]
    context = captioner.encode(captioner.preprocess(pictures(2)))
    greedy = captioner.greedy(context, SETTINGS)
    assert [module.training for module in captioner.modules()] == before
    captioner.eval()
    assert captioner.greedy(context, SETTINGS).ids.equal(greedy.ids)


def test_more_tokens_than_positions_are_refused() -> None:
    captioner = tiny_encoder_decoder()
    context = VisualContext(torch.zeros(1, 2, 32))
    with pytest.raises(ValueError, match="max_new_tokens is 25, but the decoder has 24"):
        captioner.greedy(context, GenerationSettings(max_new_tokens=25))
    assert captioner.greedy(context, GenerationSettings(max_new_tokens=24)).ids.shape == (1, 1, 24)
