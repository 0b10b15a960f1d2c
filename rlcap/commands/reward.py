"""`rlcap reward KIND`: training of learned rewards."""

import importlib

KINDS = {
    "comparative": "frozen encoders and a small network, from ratings or from which of two captions is better",
}


def main(argv: list[str]) -> None:
    """Trains a reward of one kind; raises ValueError for another kind, listing them."""
    kind, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if kind in ("-h", "--help"):
        width = max(map(len, KINDS))
        lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in KINDS.items())
        print(f"usage: rlcap reward KIND [--config RECIPE] [--KEY VALUE ...]\n\n{lines}")
        return
    if kind not in KINDS:
        raise ValueError(f"there is no reward {kind!r} to train; there are: {', '.join(KINDS)}")
    importlib.import_module(f"rlcap.commands.reward_{kind.replace('-', '_')}").main(rest)
