"""RL fine-tuning for image and video captioners."""

from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"


def _refuse_shadowed_packages() -> None:
    """`captioners` and `rewards` are common folder names: a user's own would silently take the place of ours."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("captioners", "rewards"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found is None or found.parent.parent != ours:
            raise ImportError(
                f"rlcap needs its own package {name!r} from {ours}, but Python finds {found or 'none'}. "
                f"Rename that folder, or start from another directory (with `rlcap`, not `python -m rlcap`)."
            )


_refuse_shadowed_packages()
