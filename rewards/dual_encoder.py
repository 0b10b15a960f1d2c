"""A dual encoder: pictures and captions as unit vectors of one space. Scores read it, training moves it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from rewards.fingerprint import fingerprint

# PIL pictures to pixels [N, 3, H, W]; captions to {"input_ids", "attention_mask"}, each [M, L].
Preprocess = Callable[[Sequence[Image.Image]], Tensor]
Tokenize = Callable[[Sequence[str]], dict[str, Tensor]]

# "unused": what no score depends on, such as the bias of SigLIP's own loss.
PARTS = ("vision", "text", "projections", "temperature", "unused")


class DualEncoder(nn.Module, ABC):
    """A picture tower and a text tower with a common space of D dimensions.

    preprocess: PIL pictures -> float32 pixels [N, 3, H, W]; holds no weights, so that it can run in data workers.
    tokenize: captions -> "input_ids" and "attention_mask" [M, L]. L is that of the longest caption where shorter rows
        change nothing (a causal tower, or one that masks padding), else the whole context; longer captions are cut, the
        end token kept. The mask is 1 on what the tower reads, from the left: columns that it leaves out in all rows can
        be cut off without a difference.
    context_length: the most tokens of a caption, start and end among them.
    source: where the weights come from, as `describe` says it.
    new: names of parameters that no checkpoint brought, of an encoder that was just put together; else empty.

    Gradients flow through all `encode_*`; `forward` encodes both sides, for DDP and its like.
    """

    def __init__(
        self, preprocess: Preprocess, tokenize: Tokenize, context_length: int, source: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.tokenize = tokenize
        self.context_length = context_length
        self.source = dict(source)
        self.new: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def logit_scale(self) -> nn.Parameter:
        """The logarithm of the inverse temperature, a learned scalar."""

    @abstractmethod
    def pool_images(self, pixels: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] to what the picture tower makes of them before its projection, [N, P]."""

    @abstractmethod
    def project_pooled_images(self, pooled: Tensor) -> Tensor:
        """[N, P] of `pool_images` to [N, D], of any length; the same tensor where the tower has no projection."""

    @abstractmethod
    def pool_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens [M, L] to what the text tower makes of them before its projection, [M, Q]."""

    @abstractmethod
    def project_pooled_texts(self, pooled: Tensor) -> Tensor:
        """[M, Q] of `pool_texts` to [M, D], of any length."""

    @abstractmethod
    def part_of(self, parameter: str) -> str:
        """One of `PARTS`, by the name of a parameter in `named_parameters`."""

    @abstractmethod
    def save_pretrained(self, directory: str | Path) -> None:
        """Writes a directory that `load_dual_encoder` takes, and that plain transformers, or open_clip, reads."""

    @abstractmethod
    def checkpoint_activations(self) -> None:
        """Lets both towers compute the activations of their layers again in the backward pass, in train mode."""

    def project_images(self, pixels: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] to [N, D], of any length."""
        return self.project_pooled_images(self.pool_images(pixels))

    def project_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens [M, L] to [M, D], of any length."""
        return self.project_pooled_texts(self.pool_texts(input_ids, attention_mask))

    @abstractmethod
    def project_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Every token's state [M, L, D] in the common space, of any length.

        Raises ValueError for a tower that pools before it projects, whose tokens have no place in that space.
        """

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pixels [N, 3, H, W] to unit vectors [N, D] in float32."""
        return normalize(self.project_images(pixels).float(), dim=-1)

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens [M, L] to unit vectors [M, D] in float32, one a caption."""
        return normalize(self.project_texts(input_ids, attention_mask).float(), dim=-1)

    def encode_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens [M, L] to unit vectors [M, L, D] in float32, one a token; that of the end token is the caption's."""
        return normalize(self.project_tokens(input_ids, attention_mask).float(), dim=-1)

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of pictures [N, D] and captions [M, D]."""
        return self.encode_images(pixels), self.encode_texts(input_ids, attention_mask)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.logit_scale.device

    def describe(self) -> dict[str, Any]:
        """What determines the vectors: where the weights come from, a hash of them, the context length."""
        return {**self.source, "context_length": self.context_length, "weights": fingerprint(self)}
