"""From comparative scores, whose scale means nothing, to ratings.

A scorer that was trained on pairs alone knows the order of captions and not the ratings. A map that is fitted on the
validation ratings gives them a scale; the paper (arXiv 2602.00381) leaves this open. Fitting needs scikit-learn, using
a map does not.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np

from rewards.fingerprint import fingerprint_of

KINDS = ("linear", "isotonic")


@dataclass(frozen=True)
class Calibration:
    """A map of scores to ratings through points, straight between them.

    scores, ratings: the points, scores rising. kind: `linear` goes on straight beyond its two points, `isotonic` stays
    at the first and last rating.
    """

    kind: str
    scores: list[float]
    ratings: list[float]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Ratings of scores, of any shape."""
        if self.kind == "linear":
            (x0, x1), (y0, y1) = self.scores, self.ratings
            return y0 + (np.asarray(scores, dtype=np.float64) - x0) * ((y1 - y0) / (x1 - x0))
        return np.interp(scores, self.scores, self.ratings)

    def fingerprint(self) -> str:
        """A hash of the kind and the points: "sha256:…"."""
        return fingerprint_of([json.dumps(asdict(self))])


def fit(kind: str, scores: np.ndarray, ratings: np.ndarray) -> Calibration:
    """The least-squares map of scores [N] to ratings [N]: a `linear` one, or the best that never falls (`isotonic`).

    Raises ValueError for another kind, for scores that are all the same, and where scikit-learn is not installed.
    """
    if kind not in KINDS:
        raise ValueError(f"calibration is {kind!r}; it can be {' or '.join(KINDS)}")
    try:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LinearRegression
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise  # it is there, something that it imports is not
        raise ValueError("calibration needs scikit-learn: pip install 'rlcap[scorers]'") from error
    low, high = float(np.min(scores)), float(np.max(scores))
    if not low < high:
        raise ValueError(f"calibration: all {len(scores)} scores are {low}; there is nothing to map")
    if kind == "linear":
        line = LinearRegression().fit(np.asarray(scores, dtype=np.float64)[:, None], ratings)
        return Calibration(kind, [low, high], line.predict(np.array([[low], [high]])).tolist())
    steps = IsotonicRegression(out_of_bounds="clip").fit(np.asarray(scores, dtype=np.float64), ratings)
    return Calibration(kind, steps.X_thresholds_.tolist(), steps.y_thresholds_.tolist())
