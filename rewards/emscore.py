"""EMScore (Shi et al. 2022; ShiYaya/emscore): captions of clips, as a whole and by token, as functions of unit vectors.

The published code pads the captions and clips of a batch with zeros before it takes largest similarities, so that a
negative one can become 0 by what else is in the batch; here nothing is padded.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

GRANULARITIES = ("both", "coarse", "fine")


class CaptionVectors(NamedTuple):
    """A caption's unit vectors: of the whole [D], and of the tokens from start to end [L, D] with their weights [L].

    What is by token is empty where only coarse scores are wanted.
    """

    whole: Tensor
    tokens: Tensor
    weights: Tensor


def video_score(frames: Tensor, caption: CaptionVectors, granularity: str = "both") -> Tensor:
    """EMScore(X, V) of a clip's frames [F, D], a scalar in [-1, 1]: "both" is the mean of "coarse" and "fine".

    coarse: cosine of the caption and the mean of the frames. fine: F of precision (tokens by weight, each with its
    nearest frame) and recall (frames, each with its nearest token).
    """

    def coarse() -> Tensor:
        return caption.whole @ normalize(frames.mean(dim=0), dim=0)

    def fine() -> Tensor:
        return _matched(caption.tokens, caption.weights, frames, frames.new_ones(len(frames)))

    return {"both": lambda: (coarse() + fine()) / 2, "coarse": coarse, "fine": fine}[granularity]()


def references_score(
    references: Sequence[CaptionVectors], caption: CaptionVectors, granularity: str = "both"
) -> Tensor:
    """EMScore(X, X*), a scalar: coarse of the reference nearest as a whole, fine of the one nearest by token."""

    def coarse() -> Tensor:
        return torch.stack([caption.whole @ reference.whole for reference in references]).max()

    def fine() -> Tensor:
        own = caption.tokens, caption.weights
        return torch.stack([_matched(*own, reference.tokens, reference.weights) for reference in references]).max()

    return {"both": lambda: (coarse() + fine()) / 2, "coarse": coarse, "fine": fine}[granularity]()


def _matched(tokens: Tensor, weights: Tensor, others: Tensor, other_weights: Tensor) -> Tensor:
    similarities = tokens @ others.T
    precision = (similarities.amax(dim=1) * weights).sum() / weights.sum()
    recall = (similarities.amax(dim=0) * other_weights).sum() / other_weights.sum()
    return 2 * precision * recall / (precision + recall)


class TokenWeights:
    """Inverse document frequencies of tokens: ln((N + 1) / (count + 1)) over N captions, the end token's their mean.

    The published code counts the padding too, as a token of nearly every caption, whose id is also that of "!"; it is
    not counted here.
    """

    def __init__(self, captions: Iterable[Sequence[int]]) -> None:
        """`captions`: their token ids, start and end included. Raises ValueError where no token tells two apart."""
        counts: Counter[int] = Counter()
        self.captions = 0
        end = -1
        for ids in captions:
            counts.update(set(ids))
            self.captions += 1
            end = ids[-1]
        self._unseen = math.log(self.captions + 1)
        self._weights = {token: math.log((self.captions + 1) / (count + 1)) for token, count in counts.items()}
        if not any(self._weights.values()):
            raise ValueError(
                f"idf: the corpus of {self.captions} caption(s) has no token that another caption lacks, so each would "
                "weigh 0; give a larger corpus, or idf=False"
            )
        self._weights[end] = sum(self._weights.values()) / len(self._weights)

    def __call__(self, ids: Tensor) -> Tensor:
        """Weights [L] of token ids [L]."""
        return torch.tensor([self._weights.get(token, self._unseen) for token in ids.tolist()])
