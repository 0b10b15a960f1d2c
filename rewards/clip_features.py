"""Unit vectors of pictures and captions for scoring: each distinct one encoded once, those that come back kept."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from rewards.dual_encoder import DualEncoder
from rewards.kept import Kept
from rewards.pictures import Frames

Encoded = TypeVar("Encoded")


class Tokens(NamedTuple):
    """A caption's token vectors [L, D] and ids [L], start to end."""

    vectors: Tensor
    ids: Tensor


class Features:
    """A frozen dual encoder with a memory of `capacity` vectors, those used last.

    autocast: "float16" or "bfloat16" for matrix products in that precision; None for float32.
    What comes out is float32, on the CPU. `frames_encoded` and `captions_encoded` count what went through the towers.
    Raises ValueError for another autocast, a batch_size below 1 and a capacity below 0.
    """

    def __init__(
        self, encoder: DualEncoder, *, device: str | torch.device, autocast: str | None, batch_size: int, capacity: int
    ) -> None:
        if autocast not in (None, "float16", "bfloat16"):
            raise ValueError(f"autocast is {autocast!r}; give float16, bfloat16, or None for float32")
        if batch_size < 1 or capacity < 0:
            raise ValueError(f"batch_size is {batch_size}, cached_vectors {capacity}; give at least 1, and at least 0")
        self.encoder = encoder.requires_grad_(False).eval().to(device)
        self.autocast = autocast
        self.frames_encoded = 0
        self.captions_encoded = 0
        self._batch_size = batch_size
        self._kept = Kept(capacity)

    def pictures(self, visuals: Mapping[Hashable, Frames]) -> dict[Hashable, Tensor]:
        """Name -> vectors of its frames [F, D]; kept by name, and the frames of those that are kept not looked at."""
        found, missing = self._kept.look_up("picture", visuals)
        opened = {name: visuals[name] for name in missing}
        all_frames = [frame for frames in opened.values() for frame in frames]
        self.frames_encoded += len(all_frames)
        encoded: list[Tensor] = []
        for start in range(0, len(all_frames), self._batch_size):
            pixels = self.encoder.preprocess(all_frames[start : start + self._batch_size])
            with self._frozen():
                encoded.extend(self.encoder.encode_images(pixels.to(self.encoder.device)).cpu())
        vectors = iter(encoded)
        for name, frames in opened.items():
            found[name] = torch.stack([next(vectors) for _ in frames])
            self._kept.put("picture", name, found[name], len(frames))
        return found

    def remember(self, image_id: Hashable, vectors: Tensor) -> None:
        """Keeps unit vectors [F, D] of a picture's frames that were had elsewhere, as if they were encoded here."""
        self._kept.put("picture", ("id", image_id), vectors, len(vectors))

    def captions(self, captions: Iterable[str], *, keep: bool = False) -> dict[str, Tensor]:
        """Caption -> vector [D]; kept where `keep`, for those that come back: references."""

        def encode(ids: Tensor, mask: Tensor) -> list[Tensor]:
            vectors = self.encoder.encode_texts(ids.to(self.encoder.device), mask.to(self.encoder.device))
            return [vector.clone() for vector in vectors.cpu()]

        return self._texts("caption", captions, encode, keep)

    def tokens(self, captions: Iterable[str], *, keep: bool = False) -> dict[str, Tokens]:
        """Caption -> vectors and ids of its tokens; kept as `captions` keeps."""

        def encode(ids: Tensor, mask: Tensor) -> list[Tokens]:
            vectors = self.encoder.encode_tokens(ids.to(self.encoder.device), mask.to(self.encoder.device)).cpu()
            lengths = mask.sum(dim=1).tolist()
            return [Tokens(v[:n].clone(), i[:n].clone()) for v, i, n in zip(vectors, ids, lengths, strict=True)]

        return self._texts("tokens", captions, encode, keep)

    def token_ids(self, captions: Iterable[str]) -> Iterable[list[int]]:
        """The ids of each caption, start to end."""
        for caption in captions:
            rows = self.encoder.tokenize([caption])
            yield rows["input_ids"][0, : int(rows["attention_mask"].sum())].tolist()

    def _texts(
        self, kind: str, captions: Iterable[str], encode: Callable[[Tensor, Tensor], list[Encoded]], keep: bool
    ) -> dict[str, Encoded]:
        found, missing = self._kept.look_up(kind, captions)
        self.captions_encoded += len(missing)
        if not missing:
            return found
        rows = self.encoder.tokenize(missing)
        lengths = rows["attention_mask"].sum(dim=1)
        # By length, so that a batch of short captions does not carry the padding of the longest one.
        for batch in lengths.argsort().split(self._batch_size):
            longest = int(lengths[batch].max())
            ids, mask = (rows[name][batch, :longest] for name in ("input_ids", "attention_mask"))
            with self._frozen():
                encoded = encode(ids, mask)
            for position, own in zip(batch.tolist(), encoded, strict=True):
                found[missing[position]] = own
                if keep:
                    size = int(lengths[position]) if kind == "tokens" else 1
                    self._kept.put(kind, missing[position], own, size)
        return found

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        dtype = None if self.autocast is None else getattr(torch, self.autocast)
        with torch.inference_mode(), torch.autocast(self.encoder.device.type, dtype=dtype, enabled=dtype is not None):
            yield
