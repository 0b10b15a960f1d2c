"""Caption metrics: agreement with references (COCO suite), repetition, grammar, diversity."""

from rlcap.evaluation.metrics import FAMILIES, METRICS, Evaluation, evaluate_captions, score_captions
from rlcap.evaluation.samples import sample_measures

__all__ = ["FAMILIES", "METRICS", "Evaluation", "evaluate_captions", "sample_measures", "score_captions"]
