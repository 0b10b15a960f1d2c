"""The names of splits: one name for what sources call differently."""

ALIASES = {"restval": "train", "validation": "val"}


def split_name(name: str) -> str:
    """Return "train" for COCO's "restval" (as all work on Karpathy's splits does) and "val" for "validation"."""
    return ALIASES.get(name, name)
