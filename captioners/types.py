"""What travels between a captioner, the objectives and the trainers."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CaptionTokens:
    """K captions of each of B pictures as token ids, padded right to L.

    ids: int64 [B, K, L], no start token; ends in EOS where the caption finished; the pad id elsewhere.
    mask: bool [B, K, L], True on the tokens to score, EOS included.
    caption_mask: bool [B, K], False where a picture has fewer than K captions.
    finished: bool [B, K], the caption ended with EOS and was not cut at the length limit.
    """

    ids: Tensor
    mask: Tensor
    caption_mask: Tensor
    finished: Tensor

    def to(self, device: torch.device | str) -> "CaptionTokens":
        """The same captions on another device."""
        return CaptionTokens(
            *(t.to(device, non_blocking=True) for t in (self.ids, self.mask, self.caption_mask, self.finished))
        )

    def join(self, other: "CaptionTokens") -> "CaptionTokens":
        """These captions and behind them the others, of the same pictures: K + K' captions, padded to the longer L."""
        length = max(self.ids.shape[-1], other.ids.shape[-1])
        ids, mask = (
            torch.cat([torch.nn.functional.pad(t, (0, length - t.shape[-1])) for t in pair], dim=1)
            for pair in ((self.ids, other.ids), (self.mask, other.mask))
        )
        caption_mask = torch.cat([self.caption_mask, other.caption_mask], dim=1)
        finished = torch.cat([self.finished, other.finished], dim=1)
        return CaptionTokens(ids, mask, caption_mask, finished)  # type: ignore[arg-type]

    def pick(self, captions: slice) -> "CaptionTokens":
        """These captions of each picture, padded to the longest of them."""
        mask = self.mask[:, captions]
        length = int(mask.any(dim=1).any(dim=0).sum())
        ids, mask = self.ids[:, captions, :length], mask[..., :length]
        return CaptionTokens(ids, mask, self.caption_mask[:, captions], self.finished[:, captions])


@dataclass(frozen=True)
class VisualContext:
    """What the decoder attends to for each of B pictures or clips; opaque to trainers.

    states: [B, N, D]. mask: bool [B, N], False on the padding of shorter ones; None where nothing is padded.
    words: int64 [B, N], the tokens of a prompt that stand among the states, -1 where a state stands; None where there
    are none. They are embedded by the decoder, so the context does not depend on it.
    positions: int64 [B, N], or [B, N, A] where a position has A axes; None where they are counted.
    """

    states: Tensor
    mask: Tensor | None = None
    words: Tensor | None = None
    positions: Tensor | None = None

    def pick(self, pictures: Tensor | slice) -> "VisualContext":
        """The context of these pictures."""
        fields = (self.states, self.mask, self.words, self.positions)
        return VisualContext(*(None if field is None else field[pictures] for field in fields))  # type: ignore[arg-type]

    def first(self, count: int) -> "VisualContext":
        """The context of the first `count` pictures."""
        return self.pick(slice(count))


@dataclass(frozen=True)
class TokenScores:
    """Per-token scores [B, K, L] in fp32, 0 where no token is scored.

    log_probs: log p(token | picture, tokens before it), in nats.
    entropy: of the distribution that the token was scored with, in nats; detached.
    smoothing: mean over the vocabulary of log p, the term that label smoothing adds.
    """

    log_probs: Tensor
    entropy: Tensor
    smoothing: Tensor


@dataclass(frozen=True)
class GenerationSettings:
    """What a recipe can say about generation; raises ValueError on values outside the ranges named here.

    max_new_tokens: at least 1, EOS included. temperature: above 0. top_k: 0 is off. top_p: in (0, 1], 1 is off.
    num_beams: at least 1. length_penalty: exponent of the length that a beam's log-probability is divided by.
    """

    max_new_tokens: int = 20
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    num_beams: int = 3
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (self.temperature > 0, "above 0; for the most likely token use greedy"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1 (off)"),
            "num_beams": (self.num_beams >= 1, "at least 1"),
        }
        for name, (holds, allowed) in checks.items():
            if not holds:
                raise ValueError(f"generation: {name} is {self.__dict__[name]!r}; it must be {allowed}")
