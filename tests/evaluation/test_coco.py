"""BLEU, ROUGE-L and CIDEr against closed forms."""

import math

import pytest

from rlcap.evaluation import coco

pytest.importorskip("pycocoevalcap", reason="the COCO metrics are optional: pip install 'rlcap[coco]'")

HYPOTHESES = ["a dog runs on grass", "a red bus", "sofa"]
REFERENCES = [["a dog runs on grass"], ["two cats sit"], ["sofa standing"]]


def test_bleu_of_a_perfect_and_a_short_caption() -> None:
    assert [corpus for corpus, _ in coco.bleu(["a dog runs on grass"], [REFERENCES[0]])] == pytest.approx([1.0] * 4)
    (bleu_1, each), *_ = coco.bleu(["a dog"], [["a dog runs on"]])
    assert bleu_1 == pytest.approx(math.exp(1 - 4 / 2), abs=1e-6)  # precision 1, brevity penalty e^(1 - r/c)
    assert each == pytest.approx([bleu_1])


def test_rouge_l() -> None:
    corpus, each = coco.rouge_l(["a dog runs"], [["a dog sits here"]])
    precision, recall = 2 / 3, 2 / 4
    assert corpus == each[0] == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))


def test_cider() -> None:
    corpus, each = coco.cider(HYPOTHESES, REFERENCES)
    cut = 1 / math.sqrt(2) * math.exp(-1 / 72)  # one of two equally rare words; one bigram shorter, sigma 6
    assert each == pytest.approx([10.0, 0.0, 10 * cut / 4])  # a caption of one word has no n-grams of order 2 to 4
    assert corpus == pytest.approx(sum(each) / 3)


def test_cider_of_one_picture_is_zero() -> None:
    assert coco.cider(["a dog"], [["a dog"]]) == (0.0, [0.0])


def test_references_without_a_word() -> None:
    with pytest.raises(ValueError, match="no reference has a word"):
        coco.cider(["a dog"], [[""]])
