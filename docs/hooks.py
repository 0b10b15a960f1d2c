"""What mkdocs does beyond Markdown: the front page is the README, and three pages are completed from the code."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from reference import completed  # mkdocs imports hooks with their own folder on the path

ROOT = Path(__file__).resolve().parent.parent
BORROWED = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: Any) -> Files:
    """Adds the README and the changelog, whose links are of the repository's root, to the pages of the site."""
    for page, source in BORROWED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for ours, theirs in BORROWED.items():
            text = text.replace(f"]({theirs})", f"]({ours})")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **page: Any) -> str:
    """Puts what is made of the code where a page says `<!-- generated: NAME -->`."""
    return completed(markdown)
