import logging
import pickle

import pytest
from tiny import CAPTIONS, VOCAB

from captioners.text import CaptionCodec, SpecialTokens
from captioners.tokenizer import train_tokenizer

PAD, START, EOS = 0, 1, 2


@pytest.fixture
def codec() -> CaptionCodec:
    return CaptionCodec(train_tokenizer(CAPTIONS, VOCAB), SpecialTokens(START, EOS, PAD), limit=24)


def test_ragged_captions_are_padded_and_end_in_eos(codec: CaptionCodec) -> None:
    tokens = codec.tokenize([["a dog", "a red ball", "the beach"], ["a"]])
    assert tokens.ids.shape[:2] == (2, 3)
    assert tokens.caption_mask.tolist() == [[True] * 3, [True, False, False]]
    assert tokens.finished.tolist() == tokens.caption_mask.tolist()
    a = codec.tokenizer("a", add_special_tokens=False)["input_ids"]
    assert tokens.ids[1, 0, : len(a) + 1].tolist() == [*a, EOS]
    assert int(tokens.mask[1].sum()) == len(a) + 1
    assert bool((tokens.ids[~tokens.mask] == PAD).all())
    assert START not in tokens.ids
    lengths = tokens.mask.sum(-1)
    for b, k in tokens.caption_mask.nonzero().tolist():
        assert tokens.ids[b, k, lengths[b, k] - 1] == EOS
    assert codec.decode(tokens) == [["a dog", "a red ball", "the beach"], ["a"]]


def test_a_long_caption_is_cut_without_eos_counted_and_named_once(codec: CaptionCodec, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        tokens = codec.tokenize([["a", CAPTIONS[0], CAPTIONS[1]]], max_length=3)
    assert tokens.ids.shape == (1, 3, 3)
    assert tokens.mask[0, 1:].all()
    assert EOS not in tokens.ids[0, 1:]
    assert tokens.finished.tolist() == [[True, False, False]]
    assert codec.truncated == 2
    assert len(caplog.records) == 1
    assert CAPTIONS[0] in caplog.text
    whole = codec.tokenizer(CAPTIONS[0], add_special_tokens=False)["input_ids"]
    assert tokens.ids[0, 1].tolist() == whole[:3]


def test_a_caption_that_just_fits_keeps_its_eos(codec: CaptionCodec) -> None:
    length = int(codec.tokenize([[CAPTIONS[0]]]).mask.sum())
    assert codec.tokenize([[CAPTIONS[0]]], max_length=length).finished.all()
    assert not codec.tokenize([[CAPTIONS[0]]], max_length=length - 1).finished.any()


@pytest.mark.parametrize("empty", ["", "  ", "?!"])
def test_an_empty_caption_is_named(codec: CaptionCodec, empty: str) -> None:
    with pytest.raises(ValueError, match="caption 1 of picture 1 in the batch is empty"):
        codec.tokenize([["a dog"], ["a dog", empty]])


def test_no_captions_and_impossible_lengths_are_refused(codec: CaptionCodec) -> None:
    with pytest.raises(ValueError, match="no captions"):
        codec.tokenize([[], []])
    with pytest.raises(ValueError, match="max_length is 25; this decoder takes captions of 1 to 24"):
        codec.tokenize([["a"]], max_length=25)


def test_end_of_caption_in_the_text_does_not_end_the_caption(codec: CaptionCodec) -> None:
    tokens = codec.tokenize([["a <eos> dog"]])
    assert (tokens.ids == EOS).sum() == 1


def test_pickled_codec_gives_the_same_tokens(codec: CaptionCodec) -> None:
    copy = pickle.loads(pickle.dumps(codec))
    assert copy.tokenize([CAPTIONS]).ids.equal(codec.tokenize([CAPTIONS]).ids)
