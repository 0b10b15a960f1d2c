"""CIDEr-D (Vedantam, Zitnick, Parikh 2015), equal to what pycocoevalcap's Cider computes for each caption."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards import ptb
from rewards.completions import column, score_distinct, texts
from rewards.document_frequencies import MAX_N, DocumentFrequencies, Ngram, build, load, with_eos
from rewards.references import ReferenceIndices, checked_references

SIGMA = 6.0
_GAUSS = [math.exp(-(delta**2) / (2 * SIGMA**2)) for delta in range(512)]


class ReferenceIndex:
    """A picture's references as tf-idf vectors, by n-gram.

    postings: n-gram -> (its idf, ((reference, weight), ...)); inverse_norms: [n][reference]; lengths: bigrams.
    """

    __slots__ = ("inverse_norms", "lengths", "postings")

    def __init__(self, references: Sequence[Sequence[str]], idf: Mapping[Ngram, float], unseen_idf: float) -> None:
        postings: dict[Ngram, list[tuple[int, float]]] = {}
        self.inverse_norms = [[0.0] * len(references) for _ in range(MAX_N)]
        self.lengths = [max(0, len(tokens) - 1) for tokens in references]
        for j, tokens in enumerate(references):
            for n, counts in enumerate(_counts(tokens)):
                squares = 0.0
                for ngram, count in counts.items():
                    weight = count * idf.get(ngram, unseen_idf)
                    squares += weight * weight
                    postings.setdefault(ngram, []).append((j, weight))
                self.inverse_norms[n][j] = 1.0 / math.sqrt(squares) if squares else 0.0
        self.postings = {ngram: (idf.get(ngram, unseen_idf), tuple(own)) for ngram, own in postings.items()}

    def score(self, tokens: Sequence[str], idf: Mapping[Ngram, float], unseen_idf: float) -> float:
        """CIDEr-D of one caption in [0, 10]: 10 x the mean over n and references of the clipped cosine x the Gaussian.

        As in pycocoevalcap the length is counted in bigrams, the norms are those of the unclipped vectors, and a vector
        of norm zero is not divided by it (its products are zero).
        """
        length = max(0, len(tokens) - 1)
        similarity = [0.0] * len(self.lengths)
        postings = self.postings
        for counts, inverse_norms in zip(_counts(tokens), self.inverse_norms, strict=True):
            squares = 0.0
            products: dict[int, float] = {}
            for ngram, count in counts.items():
                found = postings.get(ngram)
                if found is None:
                    weight = count * idf.get(ngram, unseen_idf)
                else:
                    weight = count * found[0]
                    for j, reference_weight in found[1]:
                        clipped = weight if weight < reference_weight else reference_weight
                        products[j] = products.get(j, 0.0) + clipped * reference_weight
                squares += weight * weight
            if squares:
                inverse_norm = 1.0 / math.sqrt(squares)
                for j, product in products.items():
                    similarity[j] += product * inverse_norm * inverse_norms[j]
        total = sum(s * _gauss(length - own) for s, own in zip(similarity, self.lengths, strict=True))
        return 10.0 * total / (MAX_N * len(self.lengths))


class CiderD:
    """Reward: CIDEr-D of a caption against its picture's references, in [0, 10] (pycocoevalcap's number, not x 100).

    corpus: image_id -> references of the training pictures; what document frequencies are counted on by default.
    document_frequencies: "corpus" (counted on `corpus`), "batch" (on the distinct pictures of each call, as an
        evaluation does on its own split), or the path of a file written by `DocumentFrequencies.save`.
    per: what counts as a document: "image" (pycocoevalcap, self-critical.pytorch) or "caption" (M2 Transformer, DiCO).
        A file brings its own.
    eos: whether the end of a caption counts as a token, in the references and in captions that `finished`. Without it
        captions that break off score higher than whole ones (on the M2 Transformer's captions: by 2.2 CIDEr points).
    max_indexed_images: pictures whose references are kept indexed (about 0.05 MB each).

    Raises ValueError where the corpus or file is missing, has a single document, or was counted with another `eos`.
    """

    __name__ = "cider-d"
    needs = frozenset({"references", "image_id"})
    uses_corpus = True

    def __init__(
        self,
        *,
        corpus: Mapping[str, Sequence[str]] | None = None,
        document_frequencies: str | Path = "corpus",
        per: str | None = None,
        eos: bool = True,
        max_indexed_images: int = 10_000,
    ) -> None:
        self.eos = eos
        self.per = per or "image"
        self.frequencies: DocumentFrequencies | None = None
        self._indices = ReferenceIndices(self._index, max_indexed_images, self.__name__)
        if document_frequencies == "batch":
            self.source = "batch"
            if self.per not in ("image", "caption"):
                raise ValueError(f"cider-d: per is {per!r}; a document is an 'image' or a 'caption'")
            return
        if document_frequencies == "corpus":
            if corpus is None:
                raise ValueError(
                    "cider-d: document frequencies are counted on a corpus and there is none; give corpus={image_id: "
                    "references}, document_frequencies=FILE, or document_frequencies='batch'"
                )
            self.frequencies = build(corpus, per=self.per, eos=eos)
        else:
            self.frequencies = load(document_frequencies)
            self._check_file(self.frequencies, per)
        self.source = self.frequencies.source
        self.per = self.frequencies.per
        self._idf = self.frequencies.inverse()
        self._unseen_idf = math.log(self.frequencies.documents)

    @property
    def references_indexed(self) -> int:
        """How often a picture's references have been indexed so far (document frequencies that do not change only)."""
        return self._indices.built

    def __call__(
        self,
        completions: Sequence[Any],
        *,
        references: Sequence[Sequence[str]] | None = None,
        image_id: Sequence[Any] | None = None,
        finished: Sequence[bool] | None = None,
        **columns: Any,
    ) -> list[float]:
        """One score a caption; `finished` None takes all captions as whole."""
        captions = texts(completions, self.__name__)
        pictures = checked_references(references, image_id, len(captions), self.__name__)
        ended = [self.eos] * len(captions)
        if finished is not None and self.eos:
            ended = [bool(f) for f in column(finished, "finished", len(captions), self.__name__)]
        if self.frequencies is None:
            scorer = self._for_batch(dict(pictures))
            return scorer(captions, references=references, image_id=image_id, finished=finished)
        indices = {key: self._indices.get(key, own) for key, own in dict(pictures).items()}

        def score(item: tuple[Any, str, bool]) -> float:
            key, caption, is_whole = item
            tokens = with_eos(ptb.tokenize(caption), is_whole)
            return indices[key].score(tokens, self._idf, self._unseen_idf)

        keys = [key for key, _ in pictures]
        return score_distinct(list(zip(keys, captions, ended, strict=True)), score)

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        return {
            "name": self.__name__,
            "document_frequencies": self.source,
            "documents": self.frequencies.documents if self.frequencies else "the batch's",
            "per": self.per,
            "eos": self.eos,
            "n": MAX_N,
            "sigma": SIGMA,
            "tokenizer": ptb.VERSION,
        }

    def _index(self, references: Sequence[str]) -> ReferenceIndex:
        tokenized = [with_eos(ptb.tokenize(reference), self.eos) for reference in references]
        return ReferenceIndex(tokenized, self._idf, self._unseen_idf)

    def _for_batch(self, corpus: Mapping[Any, Sequence[str]]) -> "CiderD":
        if len(corpus) < 2:
            raise ValueError(
                f"cider-d: document_frequencies='batch' and the batch has {len(corpus)} picture(s), so every caption "
                "would score 0; give larger batches, or count them on the training references ('corpus')"
            )
        return CiderD(corpus=corpus, per=self.per, eos=self.eos)

    def _check_file(self, frequencies: DocumentFrequencies, per: str | None) -> None:
        for option, given, own in (("eos", self.eos, frequencies.eos), ("per", per, frequencies.per)):
            if given is not None and given != own:
                raise ValueError(
                    f"cider-d: {option} is {given!r}, but the document frequencies in {frequencies.source} were "
                    f"counted with {option} {own!r}; give {option}={own!r}, or count them again"
                )
        if frequencies.documents < 2:
            raise ValueError(f"cider-d: {frequencies.source} has a single document, so every caption would score 0")


def _gauss(delta: int) -> float:
    delta = abs(delta)
    return _GAUSS[delta] if delta < len(_GAUSS) else 0.0  # exp(-512 ** 2 / 72) is 0 in double precision


def _counts(tokens: Sequence[str]) -> list[dict[Ngram, int]]:
    """Term frequencies of the n-grams of 1 to 4 tokens, one dictionary for each n."""
    second, third, fourth = tokens[1:], tokens[2:], tokens[3:]
    every: list[dict[Ngram, int]] = []
    for grams in (
        list(zip(tokens, strict=False)),
        list(zip(tokens, second, strict=False)),
        list(zip(tokens, second, third, strict=False)),
        list(zip(tokens, second, third, fourth, strict=False)),
    ):
        counts = dict.fromkeys(grams, 1)
        if len(counts) < len(grams):  # most captions repeat nothing beyond an article
            counts = {}
            for ngram in grams:
                counts[ngram] = counts.get(ngram, 0) + 1
        every.append(counts)
    return every
