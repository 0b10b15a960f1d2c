import pytest
import torch
from tiny import CAPTIONERS, CAPTIONS, pictures, vision_rows
from torch import Tensor

from captioners import GenerationSettings
from captioners.frames import TemporalEmbedding, extended

BUILDERS = pytest.mark.parametrize("build", CAPTIONERS.values(), ids=CAPTIONERS)
CLIPS = [pictures(4), pictures(4, seed=1)]
GROUPS = [CAPTIONS[:2], CAPTIONS[2:4]]


def moved(captioner):
    with torch.no_grad():
        captioner.temporal.weight.normal_()
    return captioner


def log_probs(captioner, visuals) -> Tensor:
    return captioner(captioner.preprocess(visuals), captioner.tokenize(GROUPS[: len(visuals)])).log_probs


@BUILDERS
def test_frame_order_matters_once_the_temporal_embedding_moves(build) -> None:
    captioner = build(max_frames=4)
    backwards = [clip[::-1] for clip in CLIPS]
    # OPT counts the positions of its prefix, so to it frames have an order from the start.
    if captioner._text_model().config.model_type != "opt":
        assert torch.allclose(log_probs(captioner, CLIPS), log_probs(captioner, backwards), atol=1e-4)
    moved(captioner)
    assert (log_probs(captioner, CLIPS) - log_probs(captioner, backwards)).abs().max() > 1e-2


@BUILDERS
def test_every_frame_is_seen_once(build) -> None:
    captioner = build(max_frames=4)
    rows = vision_rows(captioner)
    visual = captioner.preprocess([CLIPS[0], CLIPS[1][:1]])
    context = captioner.encode(visual)
    captioner.sample(context, 3, GenerationSettings(max_new_tokens=3))
    assert rows == [5]
    assert context.mask is not None
    a_frame = captioner.encode(captioner.preprocess(pictures(1))).states.shape[1]
    assert context.states.shape[:2] == context.mask.shape == (2, 4 * a_frame)
    assert context.mask.sum(1).tolist() == [4 * a_frame, a_frame]


@BUILDERS
def test_pictures_are_seen_as_by_a_captioner_without_frames(build) -> None:
    still = build()
    captioner = moved(build(max_frames=4))
    assert log_probs(captioner, pictures(2)).equal(log_probs(still, pictures(2)))
    # A clip of one frame is a picture, whatever it is batched with.
    alone = log_probs(still, pictures(1))
    length = alone.shape[-1]
    assert torch.allclose(log_probs(captioner, [pictures(1)]), alone, atol=1e-5)
    batched = log_probs(captioner, [pictures(1), CLIPS[1]])[:1, :, :length]
    assert torch.allclose(batched, alone, atol=1e-4)


@BUILDERS
def test_padding_frames_and_stored_features_change_nothing(build) -> None:
    captioner = moved(build(max_frames=4))
    short = [CLIPS[0], CLIPS[1][:2]]
    visual = captioner.preprocess(short)
    captions = captioner.tokenize(GROUPS)
    scores = captioner(visual, captions).log_probs
    alone = captioner(captioner.preprocess(short[1:]), captioner.tokenize(GROUPS[1:])).log_probs
    assert torch.allclose(scores[1:, :, : alone.shape[-1]], alone, atol=1e-4)
    stored = {"features": captioner.features(visual), "frame_mask": visual["frame_mask"]}
    stored["features"][1, 2:] = 9.0
    assert torch.allclose(captioner(stored, captions).log_probs, scores, atol=1e-4)


@BUILDERS
def test_too_many_frames_are_refused(build) -> None:
    with pytest.raises(ValueError, match="a clip has 4 frames; this captioner was made for at most 2"):
        log_probs(build(max_frames=2), CLIPS)
    with pytest.raises(ValueError, match="clips of 4 frames need max_frames"):
        log_probs(build(), CLIPS)


def test_the_embedding_starts_at_zero_and_extends_with_zeros() -> None:
    embedding = TemporalEmbedding(3, 5)
    assert embedding.weight.shape == (3, 5)
    assert not embedding.weight.any()
    weight = torch.randn(3, 5)
    assert extended(weight, 5)[:3].equal(weight)
    assert not extended(weight, 5)[3:].any()
    with pytest.raises(ValueError, match="max_frames is 2, but the stored temporal embedding has 3"):
        extended(weight, 2)
