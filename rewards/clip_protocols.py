"""How captions are scored on a dual encoder: of pictures as CLIP-S and PAC-S are, of clips as EMScore is."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewards.clip_features import Features
from rewards.clip_scores import MEANS, picture_score, reference_score, with_references
from rewards.completions import score_distinct
from rewards.emscore import GRANULARITIES, CaptionVectors, TokenWeights, references_score, video_score
from rewards.fingerprint import fingerprint_of

# The vectors [F, D] of pictures or clips by name, and what each caption is of.
Vectors = Mapping[Hashable, Tensor]
Names = Sequence[Hashable]
# One tuple of references a caption, empty for scores without references.
References = Sequence[tuple[str, ...]]
Item = tuple[Hashable, str, tuple[str, ...]]


@dataclass
class PictureProtocol:
    """w x max(cos, 0) with a prefix before captions and references; with references the mean of both sides.

    Raises ValueError for an unknown mean.
    """

    w: float
    prefix: str
    clamp: bool = True
    reference_w: float = 1.0
    clamp_references: bool = False
    mean: str = "harmonic"

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise ValueError(f"mean is {self.mean!r}; give one of {', '.join(MEANS)}")
        if self.prefix and not self.prefix.endswith(" "):
            self.prefix += " "

    def __call__(
        self, features: Features, captions: Sequence[str], seen: Vectors, names: Names, references: References
    ) -> list[float]:
        """One score a caption; a picture is its first frame."""
        vectors = features.captions(self.prefix + caption for caption in captions)
        known = features.captions(_distinct(references, self.prefix), keep=True)

        def score(item: Item) -> float:
            name, caption, own = item
            vector = vectors[self.prefix + caption]
            by_picture = picture_score(seen[name][0] @ vector, w=self.w, clamp=self.clamp)
            if not own:
                return by_picture.item()
            cosines = torch.stack([known[self.prefix + text] for text in own]) @ vector
            by_reference = reference_score(cosines, w=self.reference_w, clamp=self.clamp_references)
            return with_references(by_picture, by_reference, mean=self.mean).item()

        return score_distinct(list(zip(names, captions, references, strict=True)), score)


class VideoProtocol:
    """EMScore(X, V) of clips, with references EMScore(X, V, X*); no prefix, no w, no clamp.

    granularity: "both", "coarse" or "fine". idf: whether tokens weigh by their inverse document frequency in `corpus`
    (image_id -> references), which is counted at the first use.
    Raises ValueError for an unknown granularity, and when scoring with idf and without a corpus.
    """

    def __init__(self, granularity: str, idf: bool, corpus: Mapping[str, Sequence[str]] | None) -> None:
        if granularity not in GRANULARITIES:
            raise ValueError(f"granularity is {granularity!r}; give one of {', '.join(GRANULARITIES)}")
        self.granularity = granularity
        self.idf = idf
        self._corpus = corpus
        self._token_weights: TokenWeights | None = None

    def __call__(
        self, features: Features, captions: Sequence[str], seen: Vectors, names: Names, references: References
    ) -> list[float]:
        """One score a caption."""
        vectors = self._vectors(features, captions, keep=False)
        known = self._vectors(features, _distinct(references), keep=True)

        def score(item: Item) -> float:
            name, caption, own = item
            by_video = video_score(seen[name], vectors[caption], self.granularity)
            if not own:
                return by_video.item()
            by_references = references_score([known[text] for text in own], vectors[caption], self.granularity)
            return ((by_video + by_references) / 2).item()

        return score_distinct(list(zip(names, captions, references, strict=True)), score)

    def corpus_fingerprint(self) -> str | None:
        """A hash of the captions that idf is counted on, whatever their order; None where none are counted."""
        if not self.idf or not self._corpus:
            return None
        return fingerprint_of(sorted(text for own in self._corpus.values() for text in own))

    def _vectors(self, features: Features, captions: Iterable[str], keep: bool) -> dict[str, CaptionVectors]:
        if self.granularity == "coarse":
            none = torch.empty(0)
            return {
                text: CaptionVectors(own, none, none) for text, own in features.captions(captions, keep=keep).items()
            }
        return {
            text: CaptionVectors(own.vectors[-1], own.vectors, self._weights(features, own.ids))
            for text, own in features.tokens(captions, keep=keep).items()
        }

    def _weights(self, features: Features, ids: Tensor) -> Tensor:
        if not self.idf:
            return torch.ones(len(ids))
        if self._token_weights is None:
            if not self._corpus:
                raise ValueError(
                    "EMScore weighs tokens by their frequency in the training captions, and there are none; give "
                    "corpus={image_id: references}, or idf=False"
                )
            every = (text for own in self._corpus.values() for text in own)
            self._token_weights = TokenWeights(features.token_ids(every))
        return self._token_weights(ids)


def _distinct(references: References, prefix: str = "") -> list[str]:
    return [prefix + text for text in dict.fromkeys(text for own in references for text in own)]
