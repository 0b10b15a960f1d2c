"""`rlcap reward NAME`: trains a learned reward."""

import importlib
import sys

from rlcap.near import did_you_mean

REWARDS = {
    "pac": "a dual encoder for CLIP-S, PAC-S and PAC-S++, from captions and generated positives",
    "comparative": "a scorer on frozen encoders, from ratings or from which of two captions is better",
    "multi-tap": "a vision-language model that rates captions, overall and by objective (MULTI-TAP)",
    "grammar": "a head on a text encoder that tells captions from broken ones",
}


def main(argv: list[str]) -> None:
    """Runs the training of the reward that the first word names."""
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, REWARDS))
        lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in REWARDS.items())
        print(f"usage: rlcap reward NAME [--config RECIPE] [--KEY VALUE ...]\n\n{lines}")
        sys.exit(0)  # as argparse does
    name, *rest = argv
    if name not in REWARDS:
        raise ValueError(
            f"there is no reward {name!r} to train{did_you_mean(name, REWARDS)}; there are {', '.join(REWARDS)}"
        )
    importlib.import_module(f"rlcap.commands.reward_{name.replace('-', '_')}").main(rest)
