"""scikit-learn, which fits what comes after a training, is looked for before it."""

import importlib.util


def require_scikit_learn(what: str) -> None:
    """Raises ValueError, saying what needs it, where scikit-learn is missing."""
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError(f"{what} needs scikit-learn: pip install 'rlcap[scorers]'")
