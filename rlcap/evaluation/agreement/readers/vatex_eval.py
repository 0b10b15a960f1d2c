"""VATEX-EVAL (Shi et al. 2022, EMScore): captions of VATEX videos, each rated by three people.

The real files were not at hand: the layout is that which EMScore's code reads, and is tested on small files made so.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.data.annotation_files import find, picture_folder
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Ratings
from rlcap.evaluation.agreement.readers import Reading

NAME = "vatex-eval"
PROTOCOL = (
    "scores rounded to 4 decimals; τ-b and Spearman for each of three raters, then averaged (EMScore); its tables "
    "have one reference and nine. Ten frames a video, evenly from the first to the last. Learned metrics: idf on the "
    "captions of --corpus, which in EMScore are VATEX's training captions; without it on the references here, which "
    "is not as published"
)
RATERS = 3
FRAMES = "linspace:10"
# All that a pickled NumPy array of texts or numbers is made of, by NumPy before and after 2.0.
_NUMPY = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(("numpy", name) for name in ("ndarray", "dtype")),
    ("_codecs", "encode"),
}


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `candidates_list.pkl`, `gts_list.pkl`, `human_scores.pkl` and `video_ids.pkl`.

    C captions, their references [C, 9], 3 C ratings (all of one rater, then of the next) and C video ids; videos are
    `videos/<id>.mp4`. Raises ValueError where the numbers do not fit, and for a pickle of more than arrays and lists.
    """
    captions = _listed(data, "candidates_list.pkl").tolist()
    references = _listed(data, "gts_list.pkl").tolist()
    ratings = _listed(data, "human_scores.pkl").astype(float).ravel()
    videos = _listed(data, "video_ids.pkl").tolist()
    count = len(captions)
    if not len(references) == len(videos) == count or len(ratings) != RATERS * count:
        raise ValueError(
            f"{data}: {count} captions, {len(references)} lists of references, {len(videos)} video ids and "
            f"{len(ratings)} ratings; there are {RATERS} ratings a caption, and one each of the others"
        )
    folder = picture_folder(data, reading.images, ("videos",))
    candidates = [
        Candidate(str(video), str(caption), tuple(own), {"video": str(folder / f"{video}.mp4"), "video_frames": FRAMES})
        for caption, own, video in zip(captions, references, videos, strict=True)
    ]
    values = ratings.reshape(RATERS, count).T
    return Benchmark(NAME, candidates, Ratings(values, pooled=False, decimals=4), PROTOCOL)


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays, lists and texts; a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NUMPY:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not part of an array")
        return super().find_class(module, name)


def _listed(data: str, name: str) -> np.ndarray:
    path: Path = find(data, (name,), "VATEX-EVAL")
    with path.open("rb") as file:
        try:
            return np.asarray(_ArraysOnly(file).load())
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            raise ValueError(f"{path} is not read: {error}") from error
