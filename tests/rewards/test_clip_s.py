"""clip-s, pac-s, pac-s++ and their ref- forms against the published formulas on weights computed by hand."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import tiny_clip
import torch
from PIL import Image

import rewards
from rewards.clip_s import ClipS, PacS, PacSPlusPlus, RefClipS, RefPacS, RefPacSPlusPlus
from rewards.dual_encoder import DualEncoder
from rewards.dual_encoder_loading import load_dual_encoder

CAPTIONS = ["a dog runs", "a red horse.", "a dog runs", "Two people &amp; a  boat"]
IDS = ["x", "x", "y", "y"]
REFERENCES = [["a dog", "the brown dog runs"]] * 2 + [["a boat on the water", "people"]] * 2


def facing(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state, its pictures mirrored where they lie opposite to its captions, so that scores are above 0."""
    seen = unit(tiny_clip.image_features_by_hand(state, tiny_clip.pixels_by_hand(IMAGES[0])))[0]
    if seen @ text_by_hand(state, "A photo depicts " + CAPTIONS[0]) < 0:
        return {**state, "visual.proj": -state["visual.proj"]}
    return state


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    return facing(tiny_clip.random_state())


@pytest.fixture(scope="module")
def clip(plain, tmp_path_factory) -> Path:
    return tiny_clip.write_open_clip(tmp_path_factory.mktemp("clip"), plain)


@pytest.fixture
def encoder(clip: Path) -> DualEncoder:
    return load_dual_encoder(clip)


def noise(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return Image.fromarray(values)


IMAGES = [noise(0)] * 2 + [noise(1)] * 2


def unit(features: torch.Tensor) -> np.ndarray:
    values = features.detach().numpy().astype(np.float64)
    return values / np.sqrt((values**2).sum(-1, keepdims=True))


def text_by_hand(state, text: str) -> np.ndarray:
    row = open_clip.tokenize([text])[0]
    return unit(tiny_clip.text_features_by_hand(state, row[: row.argmax() + 1].tolist()))[0]


def published(state, w: float) -> tuple[list[float], list[float]]:
    """Both scores of every caption, by section and line of the published code: no reuse, no trimming."""
    scores, with_references = [], []
    for caption, image, references in zip(CAPTIONS, IMAGES, REFERENCES, strict=True):
        seen = unit(tiny_clip.image_features_by_hand(state, tiny_clip.pixels_by_hand(image)))[0]
        read = text_by_hand(state, "A photo depicts " + caption)
        s = w * max(float(seen @ read), 0.0)
        t = max(float(read @ text_by_hand(state, "A photo depicts " + r)) for r in references)
        scores.append(s)
        with_references.append(2 * s * t / (s + t) if s + t else 0.0)
    assert max(scores) > 0.05  # or the comparison is one of zeros
    return scores, with_references


@pytest.mark.parametrize("merged", [True, False])
def test_pac_s_plus_plus_equals_the_published_code_on_its_file(plain, clip: Path, tmp_path: Path, merged: bool) -> None:
    state = facing(tiny_clip.with_lora(plain, merged=merged))
    torch.save({"state_dict": state}, tmp_path / "PAC++.pth")
    scores, with_references = published(state, 2.5)
    options = {"backbone": clip, "checkpoint": tmp_path / "PAC++.pth", "device": "cpu"}
    given = {"images": IMAGES, "image_id": IDS, "references": REFERENCES}
    reward = rewards.load("pac-s++", **options)
    np.testing.assert_allclose(reward(CAPTIONS, **given), scores, atol=1e-5)
    np.testing.assert_allclose(rewards.load("ref-pac-s++", **options)(CAPTIONS, **given), with_references, atol=1e-5)
    assert np.abs(np.array(scores) - PacSPlusPlus(backbone=clip, device="cpu")(CAPTIONS, images=IMAGES)).max() > 0.1
    described = reward.describe()
    assert described["mlp_lora"] == ("merged" if merged else "unmerged")
    assert described["checkpoint"].endswith("PAC++.pth")


def test_pac_s_equals_the_published_code_on_its_file(clip: Path, tmp_path: Path, caplog) -> None:
    """A file without LoRA, on a directory that has the architecture alone."""
    state = facing(tiny_clip.random_state(seed=7))
    torch.save({"state_dict": state}, tmp_path / "clip.pth")
    bare = tiny_clip.write_open_clip(tmp_path / "bare", None)
    scores, with_references = published(state, 2.0)
    options = {"backbone": bare, "checkpoint": tmp_path / "clip.pth", "device": "cpu"}
    given = {"images": IMAGES, "references": REFERENCES}
    np.testing.assert_allclose(PacS(**options)(CAPTIONS, **given), scores, atol=1e-5)
    np.testing.assert_allclose(RefPacS(**options)(CAPTIONS, **given), with_references, atol=1e-5)
    assert not caplog.records  # open_clip would tell of random weights


def test_published_factors(encoder: DualEncoder) -> None:
    factors = {c: c(backbone=encoder).describe()["w"] for c in (ClipS, PacS, PacSPlusPlus, RefClipS, RefPacSPlusPlus)}
    assert list(factors.values()) == [2.5, 2.0, 2.5, 2.5, 2.5]


def test_options_change_the_score_as_they_say(plain, clip: Path, encoder: DualEncoder) -> None:
    base = np.array(ClipS(backbone=encoder, clamp=False)(CAPTIONS, images=IMAGES))
    assert (base > 0).all()
    mirrored = load_dual_encoder(clip)
    mirrored.model.visual.proj.data.neg_()
    np.testing.assert_allclose(ClipS(backbone=mirrored, clamp=False)(CAPTIONS, images=IMAGES), -base, rtol=1e-5)
    assert ClipS(backbone=mirrored)(CAPTIONS, images=IMAGES) == [0.0] * 4
    assert RefClipS(backbone=mirrored)(CAPTIONS, images=IMAGES, references=REFERENCES) == [0.0] * 4
    np.testing.assert_allclose(
        ClipS(backbone=encoder, w=1.0, clamp=False)(CAPTIONS, images=IMAGES), base / 2.5, rtol=1e-5
    )
    seen = unit(tiny_clip.image_features_by_hand(plain, tiny_clip.pixels_by_hand(IMAGES[0])))[0]
    bare = ClipS(backbone=encoder, prefix="", clamp=False)(CAPTIONS[:1], images=IMAGES[:1])
    assert bare == [pytest.approx(2.5 * seen @ text_by_hand(plain, CAPTIONS[0]), abs=1e-5)]
    t = max(text_by_hand(plain, CAPTIONS[0]) @ text_by_hand(plain, r) for r in REFERENCES[0])
    scaled = RefClipS(backbone=encoder, prefix="", clamp=False, reference_w=2.5, mean="arithmetic")
    given = {"images": IMAGES[:1], "references": REFERENCES[:1]}
    assert scaled(CAPTIONS[:1], **given) == [pytest.approx((bare[0] + 2.5 * t) / 2, abs=1e-5)]
    assert scaled.describe()["mean"] == "arithmetic"


def test_everything_distinct_is_encoded_once_and_pictures_once_a_run(encoder: DualEncoder) -> None:
    reward = RefClipS(backbone=encoder)
    first = reward(CAPTIONS, images=IMAGES, image_id=IDS, references=REFERENCES)
    assert (reward.features.frames_encoded, reward.features.captions_encoded) == (2, 3 + 4)
    assert reward(CAPTIONS, images=IMAGES, image_id=IDS, references=REFERENCES) == first
    assert (reward.features.frames_encoded, reward.features.captions_encoded) == (2, 3 + 4 + 3)


def test_the_memory_of_pictures_is_bounded(encoder: DualEncoder) -> None:
    reward = ClipS(backbone=encoder, cached_vectors=2)
    for name, encoded in (("x", 1), ("y", 2), ("x", 2), ("z", 3), ("x", 3), ("y", 4)):
        reward(["a dog"], images=[noise(ord(name))], image_id=[name])
        assert reward.features.frames_encoded == encoded


def test_scores_do_not_depend_on_what_else_is_in_the_batch(encoder: DualEncoder) -> None:
    long = "a very long caption of a dog that runs along the beach and back again while people watch it"
    together = ClipS(backbone=encoder, clamp=False)([*CAPTIONS, long], images=[*IMAGES, noise(2)])
    small = ClipS(backbone=encoder, clamp=False, batch_size=2)([*CAPTIONS, long], images=[*IMAGES, noise(2)])
    alone = ClipS(backbone=encoder, clamp=False)(["a dog runs"], images=IMAGES[:1])
    np.testing.assert_allclose(together, small, atol=1e-6)
    assert alone == [pytest.approx(together[0], abs=1e-6)]


def test_trls_columns(encoder: DualEncoder) -> None:
    """Conversational completions, `images` as lists of one picture, or `image`; pictures are copies, without ids."""
    reward = ClipS(backbone=encoder)
    expected = reward(CAPTIONS, images=IMAGES)
    talk = [[{"role": "assistant", "content": caption}] for caption in CAPTIONS]
    copies = [[image.copy()] for image in IMAGES]
    given = {"prompts": [""] * 4, "completion_ids": [[1]] * 4, "trainer_state": None}
    assert reward(completions=talk, images=copies, **given) == expected
    assert reward(completions=talk, image=IMAGES, **given) == expected
    assert reward.features.frames_encoded == 2


def test_clips_are_scored_by_emscore(plain, encoder: DualEncoder) -> None:
    """By loops over token states and frames; no prefix, no w, idf from the corpus."""
    clips = [[noise(3), noise(4), noise(5)], [noise(6), noise(7)]]
    corpus = {"x": ["a dog runs", "a cat"], "y": ["a boat"]}
    captions, references = ["a red dog", "a boat"], [["a dog"], ["a boat", "the water"]]
    reward = RefClipS(backbone=encoder, corpus=corpus)
    scores = reward(captions, images=clips, references=references)
    documents = [set(open_clip.tokenize([t])[0].tolist()) - {0} for own in corpus.values() for t in own]
    idf = {i: np.log(4 / (1 + sum(i in d for d in documents))) for d in documents for i in d}
    idf[49407] = sum(idf.values()) / len(idf)

    def tokens(text):
        row = open_clip.tokenize([text])[0]
        ids = row[: row.argmax() + 1].tolist()
        return unit(tiny_clip.token_features_by_hand(plain, ids)[: len(ids)]), [idf.get(i, np.log(4)) for i in ids]

    def fine(own, others, other_weights):
        vectors, weights = own
        similar = vectors @ others.T
        p, r = np.average(similar.max(1), weights=weights), np.average(similar.max(0), weights=other_weights)
        return 2 * p * r / (p + r)

    for score, caption, clip, texts in zip(scores, captions, clips, references, strict=True):
        seen = [tiny_clip.image_features_by_hand(plain, tiny_clip.pixels_by_hand(frame)) for frame in clip]
        frames, own = unit(torch.cat(seen)), tokens(caption)
        whole = frames.mean(0) / np.linalg.norm(frames.mean(0))
        by_video = (fine(own, frames, np.ones(len(clip))) + whole @ own[0][-1]) / 2
        others = [tokens(text) for text in texts]
        nearest = max(fine(own, *other) for other in others) + max(own[0][-1] @ other[0][-1] for other in others)
        assert score == pytest.approx((by_video + nearest / 2) / 2, abs=1e-5)
    with pytest.raises(ValueError, match="row 0 has 3 pictures, and video is False"):
        ClipS(backbone=encoder, video=False)(captions, images=clips)
    with pytest.raises(ValueError, match=r"give corpus=.*, or idf=False"):
        ClipS(backbone=encoder)(captions, images=clips)
    parts = [
        ClipS(backbone=encoder, idf=False, granularity=g)(captions, images=clips) for g in ("coarse", "fine", "both")
    ]
    np.testing.assert_allclose((np.array(parts[0]) + parts[1]) / 2, parts[2], atol=1e-6)


def test_a_clip_is_scored_as_a_clip_whatever_stands_beside_it(encoder: DualEncoder) -> None:
    reward = ClipS(backbone=encoder, clamp=False, idf=False)
    clip = [noise(4), noise(5), noise(6)]
    alone = reward(CAPTIONS[:1], images=[[noise(3)]])
    assert alone == reward(CAPTIONS[:1], images=[noise(3)])  # TRL's list of a picture
    assert reward(CAPTIONS[:2], images=[[noise(3)], clip])[0] == pytest.approx(alone[0], abs=1e-6)
    one_frame = reward(CAPTIONS[:1], images=[[noise(3)]], is_clip=[True])
    by_emscore = ClipS(backbone=encoder, idf=False, video=True)
    assert one_frame == pytest.approx(by_emscore(CAPTIONS[:1], images=[[noise(3)]]), abs=1e-6)
    assert abs(one_frame[0] - alone[0]) > 0.01
    mixed = reward(CAPTIONS[:3], images=[[noise(3)], noise(7), clip], is_clip=[True, False, True])
    assert mixed[:1] == pytest.approx(one_frame, abs=1e-6)
    assert mixed[1:2] == pytest.approx(reward(CAPTIONS[1:2], images=[noise(7)]), abs=1e-6)
    assert mixed[2:] == pytest.approx(by_emscore(CAPTIONS[2:3], images=[clip]), abs=1e-6)
    with pytest.raises(ValueError, match="the column 'is_clip' has 1 values for 2"):
        reward(CAPTIONS[:2], images=[clip, clip], is_clip=[True])


def test_reduced_precision_is_near_and_recorded(encoder: DualEncoder) -> None:
    exact = np.array(ClipS(backbone=encoder, clamp=False)(CAPTIONS, images=IMAGES))
    reduced = ClipS(backbone=encoder, clamp=False, autocast="bfloat16")
    scores = np.array(reduced(CAPTIONS, images=IMAGES))
    assert 0 < np.abs(scores - exact).max() < 0.05
    assert reduced.describe()["autocast"] == "bfloat16"


def test_the_score_is_described(encoder: DualEncoder) -> None:
    described = ClipS(backbone=encoder).describe()
    assert described["prefix"] == "A photo depicts "
    assert described["weights"].startswith("sha256:")
    assert {"backbone", "context_length", "open_clip", "torch", "pillow", "autocast", "clamp", "video"} <= set(
        described
    )
    assert "mean" not in described


def test_the_record_has_the_corpus_of_idf(encoder: DualEncoder) -> None:
    def corpus_of(**options) -> object:
        return ClipS(backbone=encoder, **options).describe()["idf_corpus"]

    one = corpus_of(corpus={"x": ["a dog", "a cat"], "y": ["a boat"]})
    assert one == corpus_of(corpus={"y": ["a boat"], "z": ["a cat", "a dog"]})  # the captions count, not their order
    assert one != corpus_of(corpus={"x": ["a dog", "a cat"], "y": ["a boat "]})
    assert one != corpus_of(corpus={"x": ["a dog", "a cat", "a cat"], "y": ["a boat"]})
    assert corpus_of() is None
    assert corpus_of(corpus={"x": ["a dog", "a cat"]}, idf=False) is None


@pytest.mark.parametrize("name", ["clip-s", "pac-s", "pac-s++", "ref-clip-s", "ref-pac-s", "ref-pac-s++"])
def test_they_are_loaded_by_name(clip: Path, name: str) -> None:
    reward = rewards.load(name, backbone=clip, corpus={"x": ["a dog"]})
    given = {"images": IMAGES, "image_id": IDS, "references": REFERENCES}
    needed = {column: given[column] for column in reward.needs}
    scores = rewards.score([reward], CAPTIONS, needed)[name]
    assert len(scores) == 4
    assert reward.describe()["name"] == name


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pac-s", {}, "give checkpoint=FILE"),
        ("pac-s++", {"backbone": "ViT-B-32:openai"}, "is plain CLIP at best"),
        ("clip-s", {"temperature": 1.0}, "has no option 'temperature'; its options are backbone, checkpoint, w"),
        ("clip-s", {"mean": "arithmetic"}, "are options of ref-clip-s"),
        ("ref-clip-s", {"mean": "geometric"}, "mean is 'geometric'"),
        ("clip-s", {"granularity": "word"}, "granularity is 'word'"),
        ("clip-s", {"autocast": "int8"}, "autocast is 'int8'"),
        ("clip-s", {"batch_size": 0}, "batch_size is 0"),
        ("clip-s", {"checkpoint": "x.pth"}, "the backbone is loaded already"),
    ],
)
def test_options_that_make_no_sense(encoder: DualEncoder, name: str, options: dict, message: str) -> None:
    if not name.startswith("pac"):
        options = {"backbone": encoder, **options}
    with pytest.raises(ValueError) as raised:
        rewards.load(name, **options)
    assert message in str(raised.value)
