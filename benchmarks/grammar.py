"""How often each grammar checker speaks up on captions: on human ones, an upper bound of its false alarms.

    python benchmarks/grammar.py dataset_flickr8k.json captions_val2017.json [--show 50] [--seed 0]

Files are whatever `rlcap evaluate --references` reads, without their pictures; every caption counts. `--show N` prints
N captions a file, drawn with the seed, in which a checker found something, to be read by a person. Checkers that cannot
be used here are named. LanguageTool is asked where RLCAP_LANGUAGETOOL says where it is.
"""

import argparse
import random
import time
from pathlib import Path

from rlcap.evaluation.files import read_references
from rlcap.evaluation.grammar import CHECKERS


def main() -> None:
    """Prints a row a checker and file, and the captions to look at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--checkers", nargs="+", default=list(CHECKERS), choices=list(CHECKERS))
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = {
        path: [caption for captions in read_references(path).values() for caption in captions]
        for path in arguments.files
    }
    print("| checker | file | captions | found in | % | captions a second of the processor |")
    print("|---|---|---|---|---|---|")
    shown = []
    for name in arguments.checkers:
        checker = CHECKERS[name]
        reason = None if checker.wanted() else "not asked for"
        if (reason := reason or checker.missing()) is not None:
            print(f"| {name} | not measured: {reason} | | | | |")
            continue
        checker.errors("A dog.")  # loads what it needs
        for path, captions in files.items():
            started = time.process_time()
            found = {caption: errors for caption in captions if (errors := checker.errors(caption))}
            seconds = time.process_time() - started
            number = sum(caption in found for caption in captions)
            rate, speed = 100 * number / len(captions), len(captions) / seconds
            row = (name, path.name, f"{len(captions):,}", f"{number:,}", f"{rate:.2f}", f"{speed:,.0f}")
            print(f"| {' | '.join(row)} |", flush=True)
            drawn = random.Random(arguments.seed).sample(sorted(found), min(arguments.show, len(found)))
            shown += [f"{name}: {'; '.join(found[caption])}: {caption.strip()}" for caption in drawn]
    print(*shown, sep="\n")


if __name__ == "__main__":
    main()
