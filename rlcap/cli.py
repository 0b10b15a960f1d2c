"""The `rlcap` command: finds the command's module, runs it, and turns users' errors into messages.

Nothing heavy is imported until a command has been chosen: `rlcap --help` answers in well under half a second.
"""

import importlib
import os
import sys
from contextlib import nullcontext

from rlcap import __version__

COMMANDS = {
    "quickstart": "the whole way on drawn pictures: XE, SCST, ranking-DPO, and what they brought (minutes on a CPU)",
    "xe": "train a captioner with cross-entropy on reference captions",
    "scst": "fine-tune a captioner on rewards (self-critical sequence training)",
    "rank-dpo": "fine-tune a captioner on chains of captions, each a detail worse than the one before",
    "rank-eval": "rank held-out chains with a captioner, beside its blind controls: pictures shuffled, pictures blank",
    "reward": "train a learned reward: pac, comparative, multi-tap, grammar",
    "positives": "generate captions or pictures that train a dual encoder (PAC-S++)",
    "data": "check a data set: counts, broken and repeated pictures, leaks between splits",
    "chains": "degrade captions one detail at a time: chains of captions, best first, for ranking",
    "features": "write the grid features of a frozen vision model once, for training to read",
    "caption": "caption pictures, a folder of them, clips or videos",
    "report": "runs as one HTML page: curves, captions before and after, settings",
    "evaluate": "score captions against references: BLEU, METEOR, ROUGE-L, CIDEr, repetition, grammar, diversity",
    "score": "score captions with a reward: one value a caption, shared out over processes, resumable",
    "agreement": "measure how far metrics and rewards agree with human judgments",
    "doctor": "what is installed and what can run here, with a self-test of two processes; for bug reports",
}

HELP_FLAGS = {"-h", "--help", "help"}


def usage() -> str:
    """The text of `rlcap --help`."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"rlcap {__version__}: RL fine-tuning for image and video captioners\n\n"
        f"usage: rlcap COMMAND [--config RECIPE] [--KEY VALUE ...]\n\n{lines}\n\n"
        "`rlcap COMMAND --help` shows the keys of a command. A RECIPE is a YAML file, or the name of one that is\n"
        "shipped (scst/flickr8k_cider); what stands on the command line wins. --quiet says nothing but what was\n"
        "asked for, warnings and errors; --debug shows tracebacks."
    )


def main(argv: list[str] | None = None) -> None:
    """Runs one command.

    Exit codes: 0 done, 2 the user's error (told in one message), 130, 138 and 143 told to stop by a signal (128 + its
    number), 1 anything else, such as any error of a training that was under way: a Failure is told in one message too,
    others with their traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug, quiet = (flag in arguments for flag in ("--debug", "--quiet"))
    arguments = [argument for argument in arguments if argument not in ("--debug", "--quiet")]
    if not arguments or arguments[0] in HELP_FLAGS:
        print(usage())
        return
    name, *rest = arguments
    if name == "--version":
        print(f"rlcap {__version__}")
        return
    if name not in COMMANDS:
        from rlcap.near import did_you_mean

        told = f"there is no command {name!r}{did_you_mean(name, COMMANDS)}; there are: {', '.join(COMMANDS)}"
        sys.exit(_message(told))
    from rlcap import console
    from rlcap.failures import OF_THE_USER, Failure, was_under_way
    from rlcap.launching import process_group, stopping, world

    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # for users' own rewards; behind everything installed, so that nothing here hides that
    try:
        world.enter(name)
        stopping.listen()
        with console.silenced() if quiet else nullcontext(), process_group.torn_down():
            importlib.import_module(f"rlcap.commands.{name.replace('-', '_')}").main(rest)
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        if world.rank() == 0:
            print("; ".join(["\nrlcap: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(130)
    except Failure as error:
        if debug:
            raise
        _message(str(error))
        sys.exit(1)
    except OF_THE_USER as error:
        if debug or was_under_way(error):
            raise
        sys.exit(_message(str(error)))


def _message(text: str) -> int:
    print(f"rlcap: {text}", file=sys.stderr)
    return 2
