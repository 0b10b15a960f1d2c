"""How much a captioner says with how many words: length, vocabulary, distinct n-grams, novel captions."""

from collections.abc import Collection, Sequence


def diversity_measures(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Length and diversity of C tokenised captions over the whole set.

    - `length`: mean words a caption; `vocabulary`: distinct words;
    - `distinct_1`, `distinct_2`: distinct n-grams over the set / words over the set, in [0, 1] (div-n of
      self-critical.pytorch, there over the samples of one picture); both fall as the set grows, so compare sets of one
      size only. 0 where no caption has a word.

    Raises ValueError where there is no caption.
    """
    if not captions:
        raise ValueError("diversity: there is no caption to measure")
    words = sum(len(tokens) for tokens in captions)
    distinct = {
        n: len({tuple(tokens[i : i + n]) for tokens in captions for i in range(len(tokens) - n + 1)}) for n in (1, 2)
    }
    return {
        "length": words / len(captions),
        "vocabulary": float(distinct[1]),
        "distinct_1": distinct[1] / words if words else 0.0,
        "distinct_2": distinct[2] / words if words else 0.0,
    }


def novel_share(captions: Sequence[Sequence[str]], training: Collection[tuple[str, ...]]) -> float:
    """Percent of C tokenised captions that are not, token for token, among the training captions.

    Raises ValueError where either side is empty.
    """
    if not captions or not training:
        raise ValueError(
            f"novel_share needs captions on both sides; there are {len(captions)} to measure and "
            f"{len(training)} of the training set"
        )
    return 100 * sum(tuple(tokens) not in training for tokens in captions) / len(captions)
