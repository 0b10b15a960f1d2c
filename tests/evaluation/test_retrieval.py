"""Recall at K and captions that find their pictures, against what can be said by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rlcap.evaluation import score_captions
from rlcap.evaluation.retrieval import retrieval


def test_shares_among_the_first_k() -> None:
    captions = {str(i): "a dog" for i in range(4)}
    hits = {"0": [1, 1, 1], "1": [0, 1, 1], "2": [0, 0, 1], "3": [0, 0, 0]}
    found = score_captions(captions, {key: ["a dog"] for key in captions}, retrieved=hits, metrics=["retrieval"])
    assert found.metrics == {"retrieval_1": 25, "retrieval_5": 50, "retrieval_10": 75, "captions": 4}
    assert found.per_caption["1"]["retrieval_5"] == 100
    with pytest.raises(ValueError, match="retrieval_1 cannot be computed: no dual encoder"):
        score_captions(captions, {key: ["a dog"] for key in captions}, metrics=["retrieval_1"])


def test_captions_find_their_pictures_as_by_hand(tmp_path: Path) -> None:
    """From unit vectors of a small random CLIP, one picture and one caption at a time; of a clip their mean."""
    pytest.importorskip("open_clip", reason="the encoder is open_clip's: pip install 'rlcap[clip]'")
    from tiny_clip import random_state, write_open_clip

    from rewards.clip_features import Features
    from rewards.dual_encoder_loading import load_dual_encoder
    from rlcap.evaluation.retrieval import caption_hits

    encoder = load_dual_encoder(write_open_clip(tmp_path / "clip", random_state()))
    rng = np.random.default_rng(0)
    visuals, captions, opened = {}, {}, []
    for number in range(6):
        frames = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(1 + number % 2)]
        paths = [tmp_path / f"{number}-{f}.png" for f in range(len(frames))]
        for frame, path in zip(frames, paths, strict=True):
            frame.save(path)
        opened.append(frames)
        visuals[str(number)] = {"frames": [str(path) for path in paths]}
        captions[str(number)] = " ".join(rng.choice(["dog", "red", "bus", "runs", "grass"], 4))
    pictures, texts = [], []
    with torch.no_grad():
        for frames, caption in zip(opened, captions.values(), strict=True):
            vectors = [encoder.encode_images(encoder.preprocess([frame]))[0] for frame in frames]
            pictures.append(torch.nn.functional.normalize(torch.stack(vectors).mean(0), dim=0))
            texts.append(encoder.encode_texts(**encoder.tokenize([f"see: {caption}"]))[0])
    cosines = torch.stack(texts) @ torch.stack(pictures).T
    ranks = [int((row > row[own]).sum()) for own, row in enumerate(cosines)]

    features = Features(encoder, device="cpu", autocast=None, batch_size=4, capacity=0)
    found = caption_hits(features, captions, visuals, "see:")
    assert [found[str(number)] for number in range(6)] == [[rank < 1, rank < 5, rank < 10] for rank in ranks]
    assert min(ranks) == 0
    assert max(ranks) == 5
    with pytest.raises(ValueError, match="none for \\['7'\\]"):
        caption_hits(features, {"7": "a dog"}, visuals, "")


def test_by_hand() -> None:
    """Caption 0 and 1 belong to picture 0; caption 1 lies at picture 1 by mistake."""
    pictures = torch.eye(3)
    captions = torch.stack([torch.tensor([0.9, 0.0, 0.1]), torch.tensor([0.1, 0.9, 0.0]), *torch.eye(3)[1:]])
    found = retrieval(pictures, captions, torch.tensor([0, 0, 1, 2]))
    assert found["text_to_image_r1"] == 75
    assert found["image_to_text_r1"] == 100  # picture 1's own caption is nearer still than caption 1
    assert found["r1"] == 87.5
    assert found["text_to_image_r5"] == found["image_to_text_r10"] == 100


def test_the_last_of_ten_is_found_at_ten() -> None:
    pictures = torch.eye(12)
    captions = torch.eye(12).clone()
    captions[0] = torch.cat([torch.tensor([0.1]), torch.full((9,), 0.3), torch.zeros(2)])
    found = retrieval(pictures, captions, torch.arange(12))
    assert found["text_to_image_r10"] == pytest.approx(100)
    assert found["text_to_image_r5"] == pytest.approx(100 * 11 / 12)


def test_equal_vectors_score_as_chance() -> None:
    pictures, captions = torch.ones(20, 2), torch.ones(40, 2)
    found = retrieval(pictures, captions, torch.arange(20).repeat_interleave(2))
    assert found["text_to_image_r1"] == pytest.approx(5)
    assert found["text_to_image_r10"] == pytest.approx(50)
    assert found["image_to_text_r5"] == pytest.approx(100 * 5 / 39)


def test_a_picture_without_captions_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 pictures have no captions, row 1 among them"):
        retrieval(torch.eye(3), torch.eye(3)[:2], torch.tensor([0, 2]))
