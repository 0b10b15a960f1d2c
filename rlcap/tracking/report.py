"""`rlcap report`: runs as one HTML page that needs nothing else: no network, no file beside it, no library.

Everything that comes from runs reaches the page as JSON in a script element that holds data, and is shown as text:
captions, image ids and settings are untrusted. A content security policy lets only the page's own script and style run.
"""

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlcap import __version__
from rlcap.tracking import run_directory
from rlcap.tracking.report_curves import curves, results
from rlcap.tracking.report_gallery import gallery
from rlcap.tracking.report_runs import Run, read_runs

PICTURES = 60
PAGE = files("rlcap.tracking") / "report_page"
SCRIPTS = ("elements.js", "charts.js", "words.js", "gallery.js", "page.js")


def write_report(folders: Sequence[Path], output: Path, *, pictures: int = PICTURES) -> None:
    """Writes the page of one or more run folders; the file appears whole or not at all.

    pictures: the most that the gallery shows; each adds about 15 kB.

    Raises ValueError where a folder holds no run or a file in it cannot be read, and for a negative `pictures`.
    """
    if pictures < 0:
        raise ValueError(f"pictures is {pictures}; give 0 or more")
    run_directory.write_text(output, page(read_runs(folders), pictures))


def page(runs: Sequence[Run], pictures: int = PICTURES) -> str:
    """The HTML of a report."""
    data = {
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "rlcap": __version__,
        "runs": [_described(run) for run in runs],
        "results": results(runs),
        "groups": curves(runs),
        "gallery": gallery(runs, pictures),
    }
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    title = " · ".join(run.name for run in runs).encode(errors="replace").decode()  # file names need not be Unicode
    parts = {
        "title": html.escape(title),
        "policy": html.escape(policy),
        "style": style,
        "script": script,
        "data": as_script_data(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], _asset("page.html"))


def as_script_data(value: Any) -> str:
    """JSON in ASCII that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _described(run: Run) -> dict[str, Any]:
    described = run.described
    settings = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in described["settings"].items()
    }
    git = described.get("git")
    return {
        "name": run.name,
        "folder": str(run.folder),
        "command": str(described.get("command", "")),
        "line": _command_line(described.get("arguments")),
        "seed": described["seed"],
        "starts": [str(start) for start in described["starts"]],
        "commit": f"{git['commit']}{' (modified)' if git['modified'] else ''}" if git else None,
        "versions": {str(name): str(value) for name, value in described.get("versions", {}).items()},
        "settings": settings,
        "metric": described["settings"].get("metric_for_best_model"),
        "best_step": run.best_step,
        "steps": max((record["step"] for record in run.records), default=0),
    }


def _command_line(arguments: Any) -> str:
    words = [str(argument) for argument in arguments or []]
    if words:
        words[0] = "rlcap" if Path(words[0]).name in ("rlcap", "__main__.py") else words[0]
    return shlex.join(words)


def _asset(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    """A content security policy's name for an inline script or style: the hash of what stands between its tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
