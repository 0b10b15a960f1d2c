"""What is logged of scored chains: implicit rewards, their order, a bound of the KL, the best caption."""

from collections.abc import Sequence

from torch import Tensor

from rlcap.chain_scoring import LogProbs, caption_scores
from rlcap.evaluation.ranking import Sums, ranking_sums


def chain_sums(
    policy: Sequence[LogProbs],
    reference: Sequence[LogProbs],
    kinds: Sequence[Sequence[str]] | None,
    beta: float,
    normalization: str,
) -> Sums:
    """Sums and counts, by name, over chains that both have scored.

    rewards/position_<k>      implicit reward `beta (log policy - log reference)` of the k-th caption, the best is 1
    rewards/margin            by how much a caption's reward is above that of the next one
    rewards/margin_best_worst by how much the best caption's is above the worst one's
    ranking/<measure>         MEASURES of the order of the rewards, and by kind of edit where `kinds` are given
    log_probs/best, /worst    log-probability [nats] of the best and of the worst caption under the policy
    kl_lower_bound            of the KL to the reference a token, see `two_way_kl`
    """
    sums: Sums = {}

    def add(name: str, total: float, count: float = 1) -> None:
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + total, before[1] + count)

    rewards = []
    for ours, theirs in zip(policy, reference, strict=True):
        ratios = [new.double() - old.double() for new, old in zip(ours, theirs, strict=True)]
        own = [beta * value for value in caption_scores(ratios, normalization)]
        rewards.append(own)
        for k, reward in enumerate(own, start=1):
            add(f"rewards/position_{k}", reward)
        add("rewards/margin", own[0] - own[-1], len(own) - 1)
        add("rewards/margin_best_worst", own[0] - own[-1])
        add("log_probs/best", float(ours[0].double().sum()))
        add("log_probs/worst", float(ours[-1].double().sum()))
        for new, old in zip(ours, theirs, strict=True):
            add("kl_lower_bound", float(two_way_kl(new, old).sum()), len(new))
    return sums | {f"ranking/{name}": pair for name, pair in ranking_sums(rewards, kinds).items()}


def two_way_kl(log_probs: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) of "this token or another one", at the tokens of a caption; never below 0.

    `p log(p/q) + (1 - p) log((1 - p)/(1 - q))` of the token's probabilities p and q. Telling tokens apart no further
    than this can only lose information, so it is a lower bound of the KL over the vocabulary at the same place; it
    needs no distribution that was not stored, and no samples.
    """
    p, q = (values.double().exp().clamp(1e-12, 1 - 1e-9) for values in (log_probs, reference))
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
