"""Rep-n in three readings, each under its own name: the literature prints "Rep-n" without a definition."""

from collections.abc import Sequence

from rewards.repetition import repeated_ngrams

ORDERS = (1, 2, 3, 4)


def repetition_measures(captions: Sequence[Sequence[str]], orders: Sequence[int] = ORDERS) -> dict[str, float]:
    """Repeated n-grams of C tokenised captions, for each order n, in three readings.

    - `rep_<n>_count`: mean over captions of (n-grams - distinct n-grams);
    - `rep_<n>_percent`: mean over captions of 100 * (1 - distinct/n-grams); a caption without n-grams counts as 0;
    - `rep_<n>_share`: percent of captions in which some n-gram occurs twice.

    Raises ValueError where there is no caption.
    """
    if not captions:
        raise ValueError("repetition: there is no caption to measure")
    measures = {}
    for n in orders:
        counts = [repeated_ngrams(tokens, n) for tokens in captions]
        measures[f"rep_{n}_count"] = sum(repeated for repeated, _ in counts) / len(counts)
        measures[f"rep_{n}_percent"] = 100 * sum(repeated / total for repeated, total in counts if total) / len(counts)
        measures[f"rep_{n}_share"] = 100 * sum(repeated > 0 for repeated, _ in counts) / len(counts)
    return measures
