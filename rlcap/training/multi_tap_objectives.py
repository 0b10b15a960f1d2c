"""Stage 2 of MULTI-TAP: ridge regression of each objective on frozen embeddings (scikit-learn)."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from rewards.multi_tap_objectives import Objectives
from rlcap.evaluation.judged import rating_measures
from rlcap.training.scikit_learn import require_scikit_learn

ALPHAS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # the published grid
FOLDS = 5

Targets = Sequence[Mapping[str, float]]


def fit_objectives(
    embeddings: np.ndarray,
    targets: Targets,
    pictures: Sequence[Hashable],
    alphas: Sequence[float] = ALPHAS,
    folds: int = FOLDS,
) -> Objectives:
    """Fits each objective that the data names on the N rows of `embeddings` [N, H] that have it.

    The penalty is the one with the least squared error in cross-validation whose folds share no picture. (The published
    code takes the least error on the training rows, which is always the smallest penalty.)
    Raises ValueError as `check_objectives` does.
    """
    check_objectives(targets, pictures, folds)
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold

    names = _names(targets)
    weights, intercepts, chosen = [], [], []
    for name in names:
        rows, values, groups = _of(name, targets, pictures)
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        search = GridSearchCV(Ridge(), {"alpha": list(alphas)}, cv=GroupKFold(folds), scoring="neg_mean_squared_error")
        search.fit(embeddings[rows].astype(np.float64), values, groups=[numbers[group] for group in groups])
        weights.append(search.best_estimator_.coef_)
        intercepts.append(search.best_estimator_.intercept_)
        chosen.append(float(search.best_params_["alpha"]))
    return Objectives(names, np.stack(weights), np.array(intercepts), tuple(chosen))


def check_objectives(targets: Targets, pictures: Sequence[Hashable], folds: int) -> None:
    """What the data alone tells about stage 2, for before stage 1.

    Raises ValueError where scikit-learn is missing, and for an objective of fewer pictures than folds, or of one value.
    """
    names = _names(targets)
    if names:
        require_scikit_learn("stage 2 of multi-tap")
    for name in names:
        _, values, groups = _of(name, targets, pictures)
        if len(set(groups)) < folds:
            raise ValueError(
                f"the objective {name!r} is rated for {len(set(groups))} pictures; cross-validation of {folds} folds "
                "needs at least as many"
            )
        if np.ptp(values) == 0:
            raise ValueError(f"the objective {name!r} is {values[0]:g} in every training row: there is nothing to fit")


def _names(targets: Targets) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for own in targets for name in own))


def _of(name: str, targets: Targets, pictures: Sequence[Hashable]) -> tuple[list[int], np.ndarray, list[Hashable]]:
    """The rows that have an objective, its values there, and their pictures."""
    rows = [i for i, own in enumerate(targets) if name in own]
    return rows, np.array([targets[i][name] for i in rows], dtype=np.float64), [pictures[i] for i in rows]


def measure_objectives(
    objectives: Objectives, embeddings: np.ndarray, targets: Targets, tolerance: float = 0.5
) -> dict[str, dict[str, float]]:
    """Each objective on rows that were not fitted: `accuracy` (share within `tolerance` of the rating), the measures of
    `rating_measures`, the number of `rows`, and `alpha`.

    `accuracy_of_mean` and `mae_of_mean` are those of a prediction that is the mean of these ratings for every row: what
    the others must be seen against. An objective with fewer than two rows is left out.
    """
    predicted = objectives.predict(embeddings)
    measured = {}
    for column, name in enumerate(objectives.names):
        rows = [i for i, own in enumerate(targets) if name in own]
        if len(rows) < 2:
            continue
        rated, own = np.array([targets[i][name] for i in rows]), predicted[rows, column]
        off = np.abs(rated - rated.mean())
        measured[name] = {
            "accuracy": float((np.abs(own - rated) <= tolerance).mean()),
            **rating_measures(own, rated),
            "accuracy_of_mean": float((off <= tolerance).mean()),
            "mae_of_mean": float(off.mean()),
            "rows": len(rows),
            "alpha": objectives.alphas[column],
        }
    return measured
