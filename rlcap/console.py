"""What commands say on the terminal: lines, tables, and bars with rate and time left; `--quiet` ends all of it.

tqdm is imported where it is used: it looks at SILENT once, when it is imported.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from tqdm import tqdm

# Captions and names are text, whatever stands in them: no markup, no emoji codes.
console = Console(markup=False, emoji=False, highlight=False)

# Bars of the libraries below us, which look here when they are first imported.
SILENT = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def say(*what: Any) -> None:
    """Prints texts (never wrapped) and rich's tables to stdout, above the bars that are drawn just now."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        for own in what:
            console.print(own, soft_wrap=isinstance(own, str))
        sys.stdout.flush()


def warn(text: str) -> None:
    """Prints a notice to stderr, above the bars, which `--quiet` leaves."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        print(f"rlcap: {text}", file=sys.stderr, flush=True)


def progress(iterable: Iterable[Any] | None = None, *, disable: bool = False, **options: Any) -> "tqdm":
    """A tqdm bar on stderr; where that is no terminal it is written twice a minute, so that a log file stays short."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        iterable,
        disable=disable or console.quiet,
        mininterval=interval,
        maxinterval=max(10.0, interval),
        dynamic_ncols=True,
        **options,
    )


@contextmanager
def silenced() -> Iterator[None]:
    """Neither lines nor tables nor bars within the block. What was asked for, warnings and errors are still told."""
    before = console.quiet, {name: os.environ.get(name) for name in SILENT}
    console.quiet = True
    os.environ.update(SILENT)
    try:
        yield
    finally:
        console.quiet, variables = before
        for name, value in variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
