"""CIDEr-D against pycocoevalcap, published numbers and closed forms."""

import json
import math
import pickle
from pathlib import Path

import pytest

from rewards import document_frequencies, ptb
from rewards.cider_d import CiderD

TRAINING = {
    "a": ["a dog runs on the grass", "the dog is running", "a brown dog in a field"],
    "b": ["two people sit on a bench", "a man and a woman on a bench", "people sitting"],
    "c": ["a cat sleeps on the sofa", "the cat is sleeping", "a sleepy cat"],
    "d": ["a plane in the sky", "an airplane flies in a blue sky", "the plane is flying"],
}


@pytest.fixture(scope="module")
def coco(shared: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """Image ids, the M2 Transformer's captions and the references of COCO's 5,000 Karpathy test images."""
    folder = shared / "data/coco_karpathy_test"
    captions = json.loads((folder / "m2_transformer_captions.json").read_text())
    references = json.loads((folder / "references.json").read_text())
    return list(captions), list(captions.values()), [references[i] for i in captions]


def mean(scores: list[float]) -> float:
    return 100 * sum(scores) / len(scores)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"eos": False}, "131.20"),
        ({"eos": False, "per": "caption"}, "126.76"),
        ({"eos": True}, "128.45"),
        ({"eos": False, "document_frequencies": "batch"}, "131.20"),
    ],
)
def test_published_captions_score_what_is_published(coco, options: dict, expected: str) -> None:
    ids, captions, references = coco
    corpus = dict(zip(ids, references, strict=True))
    reward = CiderD(corpus=None if "document_frequencies" in options else corpus, **options)
    assert f"{mean(reward(captions, references=references, image_id=ids)):.2f}" == expected


def test_every_caption_scores_as_in_pycocoevalcap(coco) -> None:
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer(n=4, sigma=6.0)
    ids, captions, references = (part[:1000] for part in coco)
    # Captions that repeat themselves, are empty, have one word, or are another picture's.
    captions = ["a a a dog dog", "", "dog", "... !", *captions[5:], captions[0]]
    ours = CiderD(corpus=dict(zip(ids, references, strict=True)), eos=False)
    scores = ours(captions, references=references, image_id=ids)
    for caption, own in zip(captions, references, strict=True):
        scorer += (" ".join(ptb.tokenize(caption)), [" ".join(ptb.tokenize(reference)) for reference in own])
    _, published = scorer.compute_score()
    assert max(abs(a - b) for a, b in zip(scores, published, strict=True)) < 1e-9
    assert min(scores) == 0.0


def test_a_reference_itself_scores_ten_over_the_references() -> None:
    """One reference, told word for word: every cosine is 1 and the Gaussian too."""
    reward = CiderD(corpus=TRAINING, eos=False)
    caption = "a dog runs on the grass"
    assert reward([caption], references=[[caption]], image_id=["a"]) == [pytest.approx(10.0, abs=1e-12)]


def test_closed_form_of_one_shared_word() -> None:
    """Candidate "x", reference "x y": only the unigram cosine counts, damped by one bigram of difference."""
    reward = CiderD(corpus={"1": ["x y"], "2": ["z"]}, eos=False)
    cosine = 1 / math.sqrt(2)
    expected = 10 * cosine * math.exp(-1 / 72) / 4
    assert reward(["x"], references=[["x y"]], image_id=["1"]) == [pytest.approx(expected, abs=1e-12)]


def test_only_finished_captions_get_the_end_token() -> None:
    reward = CiderD(corpus=TRAINING)
    caption, references = "the dog is running", TRAINING["a"]
    columns = {"references": [references] * 2, "image_id": ["a"] * 2}
    whole, cut = reward([caption] * 2, finished=[True, False], **columns)
    assert whole > cut > 0
    assert reward([caption] * 2, **columns) == [whole, whole]
    without = CiderD(corpus=TRAINING, eos=False)
    assert len(set(without([caption] * 2, finished=[True, False], **columns))) == 1


def test_truncation_gains_without_the_end_token_and_loses_with_it(coco) -> None:
    ids, captions, references = (part[:1000] for part in coco)
    corpus = dict(zip(ids, references, strict=True))
    stripped = []
    for caption in captions:
        tokens = ptb.tokenize(caption)
        while tokens and tokens[-1] in {"with", "in", "on", "of", "a", "at", "to", "for", "an", "the"}:
            tokens.pop()
        stripped.append(" ".join(tokens))
    for eos, sign in ((False, 1), (True, -1)):
        reward = CiderD(corpus=corpus, eos=eos)
        as_written = mean(reward(captions, references=references, image_id=ids))
        whole = mean(reward(stripped, references=references, image_id=ids))
        assert sign * (as_written - whole) > 0.4


def test_an_end_token_written_out_in_a_caption_counts_nothing() -> None:
    reward = CiderD(corpus=TRAINING)
    columns = {"references": [TRAINING["a"]] * 2, "image_id": ["a"] * 2, "finished": [False, False]}
    plain, forged = reward(["the dog is running", "the dog is running <eos>"], **columns)
    assert plain == forged


def test_references_are_indexed_once_a_picture() -> None:
    reward = CiderD(corpus=TRAINING)
    ids = ["a", "a", "b", "b"]
    captions = ["a dog", "a dog runs", "two people", "a bench"]
    columns = {"references": [list(TRAINING[i]) for i in ids], "image_id": ids}
    first = reward(captions, **columns)
    assert reward.references_indexed == 2
    assert reward(captions, **columns) == first
    assert reward.references_indexed == 2
    changed = [["something else entirely"]] * 4
    assert reward(captions, references=changed, image_id=ids) != first
    assert reward.references_indexed == 4


def test_the_index_is_bounded() -> None:
    reward = CiderD(corpus=TRAINING, max_indexed_images=2)
    for _ in range(2):
        for i in ("a", "b", "c"):
            reward(["a dog"], references=[TRAINING[i]], image_id=[i])
    assert reward.references_indexed == 6


def test_without_image_ids_the_references_tell_pictures_apart() -> None:
    reward = CiderD(corpus=TRAINING)
    references = [TRAINING["a"], TRAINING["b"]]
    captions = ["a dog runs", "people sit"]
    assert reward(captions, references=references) == reward(captions, references=references, image_id=["a", "b"])


def test_scores_do_not_depend_on_what_else_is_in_the_batch() -> None:
    reward = CiderD(corpus=TRAINING)
    ids = ["a", "b", "c", "a", "a"]
    captions = ["a dog runs", "a dog runs", "the cat", "a dog runs", "the sky"]
    together = reward(captions, references=[TRAINING[i] for i in ids], image_id=ids)
    alone = [reward([c], references=[TRAINING[i]], image_id=[i])[0] for c, i in zip(captions, ids, strict=True)]
    assert together == alone
    assert together[0] == together[3]


def test_conversational_completions_score_as_strings() -> None:
    reward = CiderD(corpus=TRAINING)
    columns = {"references": [TRAINING["a"]], "image_id": ["a"]}
    conversation = [[{"role": "assistant", "content": "a dog runs"}]]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": "a dog runs"}]}]]
    expected = reward(["a dog runs"], **columns)
    assert reward(conversation, **columns, prompts=["?"], trainer_state=None) == expected
    assert reward(parts, **columns) == expected


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([[]], "cider-d: the picture 'a' has no references"),
        ([None], "cider-d: the picture 'a' has no references"),
        (["a dog"], "the references of the picture 'a' are 'a dog'; give a list of strings"),
        ([["a dog", 3]], "the references of the picture 'a' contain 3"),
        (None, "the column 'references' is missing"),
        ([["x"], ["y"]], "the column 'references' has 2 values for 1 captions"),
    ],
)
def test_wrong_references_are_named(references, message: str) -> None:
    with pytest.raises(ValueError, match="cider-d") as raised:
        CiderD(corpus=TRAINING)(["a dog"], references=references, image_id=["a"])
    assert message in str(raised.value)


def test_a_picture_with_two_sets_of_references_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' occurs with different references"):
        CiderD(corpus=TRAINING)(["x", "y"], references=[["a"], ["b"]], image_id=["a", "a"])


def test_a_completion_that_is_no_text_is_named() -> None:
    with pytest.raises(ValueError, match="cider-d: completion 1 is 5"):
        CiderD(corpus=TRAINING)(["x", 5], references=[["a"]] * 2, image_id=["a"] * 2)


def test_document_frequencies_must_come_from_somewhere() -> None:
    with pytest.raises(ValueError, match="counted on a corpus and there is none"):
        CiderD()
    with pytest.raises(ValueError, match="1 document"):
        CiderD(corpus={"a": ["a dog", "the dog"]})
    with pytest.raises(ValueError, match="the batch has 1 picture"):
        CiderD(document_frequencies="batch")(["a dog"], references=[["a dog"]], image_id=["a"])
    with pytest.raises(ValueError, match="per is 'word'"):
        CiderD(corpus=TRAINING, per="word")


def test_a_file_gives_the_same_scores(tmp_path: Path) -> None:
    path = tmp_path / "df.npz"
    document_frequencies.build(TRAINING).save(path)
    columns = {"references": [TRAINING["a"]], "image_id": ["a"]}
    from_file = CiderD(document_frequencies=path)
    assert from_file(["a dog runs"], **columns) == CiderD(corpus=TRAINING)(["a dog runs"], **columns)
    assert from_file.describe()["document_frequencies"] == str(path)
    with pytest.raises(ValueError, match=r"eos is False, but the document frequencies in .* eos True"):
        CiderD(document_frequencies=path, eos=False)
    with pytest.raises(ValueError, match="per is 'caption', but"):
        CiderD(document_frequencies=path, per="caption")


def test_a_reward_travels_to_another_process() -> None:
    reward = CiderD(corpus=TRAINING)
    columns = {"references": [TRAINING["a"]], "image_id": ["a"]}
    expected = reward(["a dog runs"], **columns)
    assert pickle.loads(pickle.dumps(reward))(["a dog runs"], **columns) == expected


def test_describe_says_what_determines_the_score() -> None:
    described = CiderD(corpus=TRAINING, per="caption").describe()
    assert described == {
        "name": "cider-d",
        "document_frequencies": "corpus",
        "documents": 12,
        "per": "caption",
        "eos": True,
        "n": 4,
        "sigma": 6.0,
        "tokenizer": ptb.VERSION,
    }
