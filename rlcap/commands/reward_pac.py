"""`rlcap reward pac`: a dual encoder learns which caption belongs to which picture, for CLIP-S, PAC-S and PAC-S++."""

from rlcap.recipes import parse


def main(argv: list[str]) -> None:
    """Trains the encoder from a recipe and the command line, and measures it."""
    from rlcap.training.arguments import DataArguments
    from rlcap.training.pac_arguments import PacArguments
    from rlcap.training.pac_run import run

    data, args = parse(argv, "reward pac", DataArguments, PacArguments)
    run(data, args)
