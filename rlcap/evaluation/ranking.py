"""How well scores put the captions of chains in their order: measures as sums and counts, so that shares can be merged.

A chain's scores are those of its captions, best caption first; a caption counts as better only where its score is
higher: what is scored alike is in no order, as in TRL's reward accuracies.
"""

from collections.abc import Sequence
from itertools import combinations, pairwise

MEASURES = {
    "pair_accuracy": "share of all pairs of captions of a chain that are in order",
    "adjacent_accuracy": "share of steps of a chain, from a caption to the next, that are in order",
    "kendall_tau": "Kendall's tau of scores and order (-1 to 1), mean over chains",
    "exact_order": "share of chains that are in order from end to end",
}
RANKED = {
    f"{by}/{measure}": f"{text}; by {score}"
    for by, score in (("ranking", "implicit reward"), ("assessment", "log-probability"))
    for measure, text in MEASURES.items()
}
"""The measures as evaluation of ranking-DPO names them; more is better of all."""
BY_KIND = "adjacent_accuracy/"
"""Before a kind of edit: the same share, of the steps of that kind."""

Sums = dict[str, tuple[float, float]]
"""name -> what was summed, and over how many."""


def ranking_sums(scores: Sequence[Sequence[float]], kinds: Sequence[Sequence[str]] | None = None) -> Sums:
    """MEASURES of chains as sums and counts, and the accuracy of steps by the kind of edit (`adjacent_accuracy/KIND`).

    scores: of each chain, best caption first. kinds: of each chain, the kind of every step; "" where it is not known,
    which is counted under no kind. Chains of fewer than two captions are left out.
    """
    sums: Sums = {}

    def add(name: str, total: float, count: float) -> None:
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + total, before[1] + count)

    for number, own in enumerate(scores):
        if len(own) < 2:
            continue
        pairs = [(better > worse) - (better < worse) for better, worse in combinations(own, 2)]
        steps = [better > worse for better, worse in pairwise(own)]
        add("pair_accuracy", pairs.count(1), len(pairs))
        add("adjacent_accuracy", sum(steps), len(steps))
        add("kendall_tau", sum(pairs) / len(pairs), 1)
        add("exact_order", all(steps), 1)
        for kind, in_order in zip(kinds[number] if kinds else (), steps, strict=False):
            if kind:
                add(f"{BY_KIND}{kind}", in_order, 1)
    return sums


def means(sums: Sums) -> dict[str, float]:
    """The mean of everything that was counted, the measures in their order and kinds by name behind them."""
    order = list(MEASURES)
    names = sorted(sums, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: sums[name][0] / sums[name][1] for name in names if sums[name][1]}
