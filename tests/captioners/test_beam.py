import pytest
import torch
from inner import as_captions, inner_generate
from tiny import ALL_CAPTIONERS, favour_end, lay_out, pictures, tiny_encoder_decoder

from captioners import GenerationSettings


@pytest.mark.parametrize("layout", ["packed", "rows"])
@pytest.mark.parametrize(("num_beams", "length_penalty"), [(1, 1.0), (3, 1.0), (4, 0.0), (5, 2.0)])
@pytest.mark.parametrize("build", ALL_CAPTIONERS.values(), ids=ALL_CAPTIONERS)
def test_beam_search_equals_generate(build, num_beams: int, length_penalty: float, layout: str) -> None:
    captioner = build()
    lay_out(captioner, layout)
    favour_end(captioner)
    visual = captioner.preprocess(pictures(8))
    settings = GenerationSettings(max_new_tokens=9, num_beams=num_beams, length_penalty=length_penalty)
    ours = captioner.beam_search(captioner.encode(visual), settings, num_return=num_beams)
    output = inner_generate(
        captioner,
        visual,
        do_sample=False,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        length_penalty=length_penalty,
        early_stopping=False,
        max_new_tokens=9,
    )
    theirs = as_captions(captioner, output.sequences, num_beams)
    assert ours.ids.equal(theirs.ids)
    assert ours.mask.equal(theirs.mask)
    assert ours.finished.equal(theirs.finished)
    assert ours.finished.any()


def test_beams_come_best_first() -> None:
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    context = captioner.encode(captioner.preprocess(pictures(4)))
    settings = GenerationSettings(max_new_tokens=9, num_beams=4, length_penalty=0.7)
    best = captioner.beam_search(context, settings, num_return=4)
    scores = captioner(context, best).log_probs.sum(-1) / best.mask.sum(-1) ** 0.7
    assert (scores.diff(dim=1) <= 1e-5).all()
    assert captioner.beam_search(context, settings).ids[:, 0].equal(best.ids[:, 0, : best.mask[:, 0].any(0).sum()])


@pytest.mark.parametrize("num_return", [0, 4])
def test_returning_more_than_the_beams_is_refused(num_return: int) -> None:
    captioner = tiny_encoder_decoder()
    context = captioner.encode(captioner.preprocess(pictures(1)))
    with pytest.raises(ValueError, match=f"num_return is {num_return}; it must be between 1 and num_beams \\(3\\)"):
        captioner.beam_search(context, GenerationSettings(), num_return=num_return)


def test_one_beam_is_greedy() -> None:
    captioner = tiny_encoder_decoder()
    favour_end(captioner)
    context = captioner.encode(captioner.preprocess(pictures(5)))
    settings = GenerationSettings(max_new_tokens=9, num_beams=1)
    assert captioner.beam_search(context, settings).ids.equal(captioner.greedy(context, settings).ids)
    assert torch.is_grad_enabled()
