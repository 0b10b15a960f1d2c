"""A captioner's ranking of held-out chains beside its blind controls."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from rich.table import Table

from captioners.base import Captioner
from rlcap.chain_scoring import LogProbs, caption_scores, score_chains
from rlcap.data.chain_prompts import require_prompt
from rlcap.data.rows import shown
from rlcap.evaluation.ranking import BY_KIND, MEASURES, means, ranking_sums

WHAT_IT_IS = {
    "true": "every chain with its own picture",
    "shuffled": "every chain with another chain's picture",
    "blank": "every picture replaced by even grey",
}


@dataclass(frozen=True)
class RankEvaluation:
    """measures: control -> measure (`rlcap.evaluation.ranking`) -> value. per_chain: id, and control -> scores.

    left_out: control -> how many of the `chains` have no scores. steps: kind of edit -> how many steps of the chains.
    """

    measures: dict[str, dict[str, float]]
    chains: int
    left_out: dict[str, int]
    per_chain: list[dict[str, Any]]
    steps: dict[str, int]


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

    Policy and reference are shown the same picture. Chains whose picture cannot be decoded, by either, are left out
    under every control but `shuffled`, where they are left out with the picture that cannot be; a caption that the
    decoder cannot take whole is cut. options: `features`, `batch_size`, `workers`, `max_bad_images` of `score_chains`.
    Raises ValueError for chains that answer another prompt than the captioner's, and for a reference with another
    prompt or other tokens.
    """
    require_prompt(chains, captioner.prompt)
    length = max_caption_length
    if length is None:
        length = min(own.codec.limit for own in (captioner, reference) if own is not None)
    if reference is not None:
        _require_alike(captioner, reference, chains, length)
    per_chain: list[dict[str, Any]] = [{"image_id": name} for name in chains["image_id"]]
    kinds = chains["kinds"]
    measures: dict[str, dict[str, float]] = {}
    left_out: dict[str, int] = {}
    for control in controls:
        given = {"max_caption_length": length, "control": control, "seed": seed, **options}
        found = dict(score_chains(captioner, chains, bar=control, **given))
        if reference is not None:
            before = dict(score_chains(reference, chains, bar=f"{control}, reference", **given))
            found = {position: _ratios(policy, before[position]) for position, policy in found.items()}
        scores = {k: caption_scores(chain, normalization) for k, chain in found.items() if chain is not None}
        left_out[control] = len(found) - len(scores)
        for position, own in scores.items():
            per_chain[position][control] = own
        measures[control] = means(ranking_sums(list(scores.values()), [kinds[position] for position in scores]))
    steps = Counter(kind for own in kinds for kind in own if kind)
    return RankEvaluation(measures, len(chains), left_out, per_chain, dict(steps.most_common()))


def results_table(evaluation: RankEvaluation) -> Table:
    """Measures down, controls across."""
    table = Table(title=f"{evaluation.chains:,} chains", title_justify="left", show_edge=False)
    table.add_column("", no_wrap=True)
    for control in evaluation.measures:
        table.add_column(control, justify="right", no_wrap=True)
    table.add_column("what it is")
    rows = dict.fromkeys(name for own in evaluation.measures.values() for name in own)
    for name in rows:
        values = (own.get(name) for own in evaluation.measures.values())
        what = MEASURES.get(name) or f"{evaluation.steps[name.removeprefix(BY_KIND)]:,} steps"
        table.add_row(name, *("" if value is None else f"{value:.3f}" for value in values), what)
    if any(evaluation.left_out.values()):
        table.add_row("left out", *map(str, evaluation.left_out.values()), "chains whose picture cannot be decoded")
    return table


def _ratios(policy: LogProbs | None, reference: LogProbs | None) -> LogProbs | None:
    """log policy - log reference of each token; None where the picture could not be decoded for both."""
    if policy is None or reference is None:
        return None
    return [ours - theirs for ours, theirs in zip(policy, reference, strict=True)]


def _require_alike(captioner: Captioner, reference: Captioner, chains: datasets.Dataset, length: int) -> None:
    """Raises ValueError where the reference scores other tokens than the captioner, or under another prompt."""
    if captioner.prompt != reference.prompt:
        raise ValueError(
            f"the captioner's prompt is {captioner.prompt!r} and the reference's {reference.prompt!r}: choose one for "
            "both by --prompt, or give the captioner that ranking-DPO began with as --reference"
        )
    for captions in chains["captions"]:
        both = (_ids(own, captions, length) for own in (captioner, reference))
        for caption, ours, theirs in zip(captions, *both, strict=True):
            if ours != theirs:
                raise ValueError(
                    f"the captioner and the reference have different tokenizers: {shown(caption)} is {ours} to the "
                    f"captioner ({_named(captioner)}) and {theirs} to the reference ({_named(reference)}). Give the "
                    "captioner that ranking-DPO began with as --reference"
                )


def _ids(captioner: Captioner, captions: list[str], length: int) -> list[list[int]]:
    tokens = captioner.tokenize([captions], length)
    return [ids[mask].tolist() for ids, mask in zip(tokens.ids[0], tokens.mask[0], strict=True)]


def _named(captioner: Captioner) -> str:
    tokenizer = captioner.codec.tokenizer
    return f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens"
