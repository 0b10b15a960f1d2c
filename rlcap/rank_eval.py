"""A captioner's ranking of held-out chains beside its blind controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from rich.table import Table

from captioners.base import Captioner
from rlcap.chain_scoring import LogProbs, caption_scores, score_chains
from rlcap.data.chain_prompts import require_prompt
from rlcap.evaluation.ranking import MEASURES, means, ranking_sums

WHAT_IT_IS = {
    "true": "every chain with its own picture",
    "shuffled": "every chain with another chain's picture",
    "blank": "every picture replaced by even grey",
}


@dataclass(frozen=True)
class RankEvaluation:
    """measures: control -> measure (`rlcap.evaluation.ranking`) -> value. per_chain: id, and control -> scores."""

    measures: dict[str, dict[str, float]]
    chains: int
    per_chain: list[dict[str, Any]]


def rank_evaluation(
    captioner: Captioner,
    chains: datasets.Dataset,
    *,
    reference: Captioner | None = None,
    controls: Sequence[str] = tuple(WHAT_IT_IS),
    normalization: str = "token",
    max_caption_length: int | None = None,
    seed: int = 0,
    **options: Any,
) -> RankEvaluation:
    """Ranks chains (rows of `load_chains`) by log-probability, or by log policy - log reference, under each control.

    Policy and reference are shown the same picture. Chains whose picture cannot be decoded are left out under every
    control but `shuffled`, where they are left out with the picture that cannot be; a caption that the decoder cannot
    take whole is cut. options: `features`, `batch_size`, `workers` and `max_bad_images` of `score_chains`.
    Raises ValueError for chains that answer another prompt than the captioner's.
    """
    require_prompt(chains, captioner.prompt)
    length = captioner.codec.limit if max_caption_length is None else max_caption_length
    per_chain: list[dict[str, Any]] = [{"image_id": name} for name in chains["image_id"]]
    kinds = chains["kinds"]
    measures = {}
    for control in controls:
        shown = {"max_caption_length": length, "control": control, "seed": seed, **options}
        policy = dict(score_chains(captioner, chains, bar=control, **shown))
        before = None
        if reference is not None:
            before = dict(score_chains(reference, chains, bar=f"{control}, reference", **shown))
        scores = {
            position: _scores(chain, None if before is None else before[position], normalization)
            for position, chain in policy.items()
            if chain is not None
        }
        for position, own in scores.items():
            per_chain[position][control] = own
        measures[control] = means(ranking_sums(list(scores.values()), [kinds[position] for position in scores]))
    return RankEvaluation(measures, len(chains), per_chain)


def results_table(evaluation: RankEvaluation) -> Table:
    """Measures down, controls across."""
    table = Table(title=f"{evaluation.chains:,} chains", title_justify="left", show_edge=False)
    table.add_column("")
    for control in evaluation.measures:
        table.add_column(control, justify="right")
    table.add_column("what it is")
    rows = dict.fromkeys(name for own in evaluation.measures.values() for name in own)
    for name in rows:
        values = (own.get(name) for own in evaluation.measures.values())
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in values), MEASURES.get(name, ""))
    return table


def _scores(policy: LogProbs, reference: LogProbs | None, normalization: str) -> list[float]:
    if reference is None:
        return caption_scores(policy, normalization)
    return caption_scores([ours - theirs for ours, theirs in zip(policy, reference, strict=True)], normalization)
