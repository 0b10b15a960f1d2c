"""In how many documents an n-gram occurs: what CIDEr-D weighs n-grams by; counted, saved and loaded."""

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rewards import ptb

MAX_N = 4
EOS = "<eos>"
FORMAT = "rlcap document frequencies 1"
UNITS = ("image", "caption")

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class DocumentFrequencies:
    """How many of `documents` documents hold each n-gram of 1 to 4 tokens.

    counts: only n-grams of two documents or more. One that occurs in a single document weighs as much as one that
        occurs in none (df is taken as at least 1), and leaving it out makes the table several times smaller.
    per: "image" (a picture's references together are a document) or "caption" (each reference is one).
    eos: whether the token "<eos>" ends every reference.
    source: where the counts come from, as recorded with scores.
    """

    documents: int
    counts: dict[Ngram, int]
    per: str
    eos: bool
    source: str

    def inverse(self) -> dict[Ngram, float]:
        """ln(documents) - ln(df) by n-gram; n-grams that are not in it weigh ln(documents)."""
        log_documents = math.log(self.documents)
        return {ngram: log_documents - math.log(count) for ngram, count in self.counts.items()}

    def save(self, path: str | Path) -> None:
        """Writes an .npz of two byte strings and an array (no pickle); the file appears whole or not at all."""
        path = Path(path)
        header = {"format": FORMAT, "documents": self.documents, "per": self.per, "eos": self.eos}
        header["tokenizer"] = ptb.VERSION
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            try:
                np.savez_compressed(
                    file,
                    header=_as_bytes(json.dumps(header)),
                    ngrams=_as_bytes("\n".join(" ".join(ngram) for ngram in self.counts)),
                    counts=np.fromiter(self.counts.values(), dtype=np.int32, count=len(self.counts)),
                )
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                os.unlink(file.name)
                raise
        os.replace(file.name, path)


def build(
    corpus: Mapping[str, Sequence[str]], *, per: str = "image", eos: bool = True, source: str = "corpus"
) -> DocumentFrequencies:
    """Counts over `corpus` (image_id -> references), PTB-tokenised, with "<eos>" at their end where `eos`.

    Raises ValueError where `per` is neither "image" nor "caption", and where there are fewer than two documents: every
    n-gram would weigh ln 1 = 0, and every caption would score 0.
    """
    if per not in UNITS:
        raise ValueError(f"document frequencies: per is {per!r}; a document is an 'image' or a 'caption'")
    counts: dict[Ngram, int] = {}
    documents = 0
    for references in tqdm(corpus.values(), desc="document frequencies", unit=" pictures", delay=5, leave=False):
        tokenized = [with_eos(ptb.tokenize(reference), eos) for reference in references]
        for document in [tokenized] if per == "image" else [[tokens] for tokens in tokenized]:
            documents += 1
            for ngram in {ngram for tokens in document for ngram in ngrams(tokens)}:
                counts[ngram] = counts.get(ngram, 0) + 1
    if documents < 2:
        raise ValueError(
            f"document frequencies: the corpus ({source}) has {documents} document(s), so that every n-gram would "
            "weigh ln 1 = 0 and every caption score 0; give the references of all training pictures"
        )
    return DocumentFrequencies(documents, {g: c for g, c in counts.items() if c > 1}, per, eos, source)


def load(path: str | Path) -> DocumentFrequencies:
    """Reads what `save` wrote; raises ValueError naming the file where it is missing or something else."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"document frequencies: there is no file {path}; write one with DocumentFrequencies.save")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            text = arrays["ngrams"].tobytes().decode()
            counts = arrays["counts"].tolist()
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"document frequencies: {path} was not written by DocumentFrequencies.save: {error}"
        ) from error
    if header.get("format") != FORMAT:
        raise ValueError(f"document frequencies: {path} has the format {header.get('format')!r}, not {FORMAT!r}")
    if header["tokenizer"] != ptb.VERSION:
        raise ValueError(
            f"document frequencies: {path} was counted with the tokeniser {header['tokenizer']!r}, this is "
            f"{ptb.VERSION!r}; count it again"
        )
    keys = [tuple(line.split(" ")) for line in text.split("\n")] if text else []
    if len(keys) != len(counts):
        raise ValueError(f"document frequencies: {path} is damaged: {len(keys)} n-grams and {len(counts)} counts")
    table = dict(zip(keys, counts, strict=True))
    return DocumentFrequencies(header["documents"], table, header["per"], header["eos"], str(path))


def with_eos(tokens: list[str], finished: bool) -> list[str]:
    """The tokens, with "<eos>" at the end where `finished` and, whatever the text says, nowhere else."""
    if EOS in tokens:
        tokens = [token for token in tokens if token != EOS]
    return [*tokens, EOS] if finished else tokens


def ngrams(tokens: Sequence[str]) -> Iterable[Ngram]:
    """All n-grams of 1 to 4 tokens, in order, repeats included."""
    for n in range(1, MAX_N + 1):
        yield from zip(*(tokens[i:] for i in range(n)), strict=False)


def _as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)
