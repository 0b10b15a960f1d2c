"""Reading the Markdown of the documentation: its shell blocks, and the files that it shows."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A shell block, named by its heading and its number there; or a file, named by the comment in its first line."""

    name: str
    text: str
    is_file: bool


def blocks(page: str) -> list[Block]:
    """The shell blocks of a page, and the blocks that begin with the name of a file, in order."""
    found, heading, number = [], "", 0
    for match in _BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        if match["heading"]:
            heading, number = match["heading"], 0
        elif match["language"] == "bash":
            number += 1
            found.append(Block(f"{heading}, {number}", match["text"], is_file=False))
        elif named := _FILE.match(match["text"]):
            found.append(Block(named[1], match["text"], is_file=True))
    return found
