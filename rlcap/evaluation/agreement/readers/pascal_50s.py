"""Pascal-50S (Vedantam, Zitnick, Parikh 2015): 4,000 pairs of captions, the better by most of 48 votes.

The real files were not at hand: the layout is that which published readers of `pyCIDErConsensus` expect, and is tested
on small files made so.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from rlcap.data.annotation_files import find, picture_folder
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Pair
from rlcap.evaluation.agreement.readers import Reading

NAME = "pascal-50s"
PROTOCOL = (
    "the better caption of a pair is that of most votes, ties at random; 5 references of 48 at random, mean of 5 "
    "draws; accuracy for each kind of pair and over all (CLIPScore, PAC-S)"
)
CATEGORIES = {1: "HC", 2: "HI", 3: "HM", 4: "MM"}
VOTES = 48
REFERENCES = 5
DRAWS = 5


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `pair_pascal.mat` and `consensus_pascal.mat`; pictures in `images/`, or VOC's `JPEGImages/`.

    pair_pascal: `new_input`, structs (picture, caption, caption), and `category` 1 to 4. consensus_pascal: `triplets`,
    48 structs a pair in the same order (reference, caption, caption, 1 where the first one won, else -1). Raises
    ValueError where the two files do not fit.
    """
    pair_file, vote_file = (find(data, (name,), "Pascal-50S") for name in ("pair_pascal.mat", "consensus_pascal.mat"))
    pairs = _array(pair_file, "new_input")
    categories = _array(pair_file, "category")
    triplets = _array(vote_file, "triplets")
    if len(triplets) != VOTES * len(pairs) or len(categories) != len(pairs):
        raise ValueError(
            f"{data}: {len(pairs)} pairs, {len(categories)} categories and {len(triplets)} votes; there are {VOTES} "
            "votes a pair"
        )
    most = min(reading.references or REFERENCES, VOTES)
    random = np.random.default_rng(reading.seed)
    folder = picture_folder(data, reading.images, ("images", "JPEGImages"))
    candidates: list[Candidate] = []
    judged: list[Pair] = []
    for number, (pair, category) in enumerate(zip(pairs, categories, strict=True)):
        name, *captions = (_text(pair[field]) for field in range(3))
        votes = triplets[VOTES * number : VOTES * (number + 1)]
        if [_text(votes[0][1]), _text(votes[0][2])] != captions:
            raise ValueError(f"{vote_file}: the votes of pair {number} are on other captions than in {pair_file}")
        won = sum(int(_plain(vote[3])) for vote in votes)  # 1 for the first caption, -1 for the second
        better = int(won < 0) if won else int(random.integers(2))
        references = [_text(vote[0]) for vote in votes]
        for draw in range(DRAWS):
            chosen = tuple(references[position] for position in random.choice(VOTES, size=most, replace=False))
            visual = {"image": str(folder / name)}
            first = len(candidates)
            candidates += [Candidate(Path(name).stem, caption, chosen, visual, draw) for caption in captions]
            sides = (first + better,), (first + 1 - better,)
            judged.append(Pair(*sides, Path(name).stem, CATEGORIES[int(category)]))
    return Benchmark(NAME, candidates, judged, PROTOCOL)


def _array(path: Path, name: str) -> np.ndarray:
    document = loadmat(str(path))
    if name not in document:
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(key for key in document if key[:2] != '__')}")
    return np.ravel(document[name])


def _plain(value: Any) -> Any:
    """What a MATLAB field holds, out of the arrays and cells around it."""
    while isinstance(value, np.ndarray):
        value = value.flat[0]
    return value


def _text(value: Any) -> str:
    return str(_plain(value)).strip()
