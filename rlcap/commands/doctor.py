"""`rlcap doctor`: what is here, and whether rlcap can train."""

import argparse
import json
import os
import sys
from functools import partial


def main(argv: list[str]) -> None:
    """Looks, and prints what it has found; exit code 1 where rlcap cannot train here."""
    parser = argparse.ArgumentParser(
        prog="rlcap doctor",
        description="What is installed, which accelerators there are, which rewards and checkers can run here, and a "
        "self-test: two processes train a tiny captioner for a step. Paste it into bug reports: it shows no key, no "
        "token and no home folder. Marks: - is something that can be done without, ! what keeps rlcap from training. "
        "Exit code 0: rlcap can train here; 1: it cannot.",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--no-self-test", action="store_true", help="start no processes")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the self-test may take (default 60)")
    arguments = parser.parse_args(argv)
    if os.environ.get("RANK", "0") != "0":
        return  # under a launcher one report is enough

    from rlcap.doctor.report import as_json, as_text, examine, healthy
    from rlcap.doctor.self_test import self_test

    report = examine(None if arguments.no_self_test else partial(self_test, arguments.seconds))
    print(json.dumps(as_json(report), indent=1, ensure_ascii=False) if arguments.json else as_text(report))
    if not healthy(report):
        sys.exit(1)
