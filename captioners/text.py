"""Captions to token ids and back, without a model: picklable, so that it can run in data workers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from captioners.types import CaptionTokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that begin, end and pad a caption; EOS and pad may be the same id.

    prefix: tokens that are fed between start and every caption and never scored, such as a prompt. forced: how many of
    them `generate` of transformers forces rather than is given, and so counts in the length of a beam.
    """

    start: int
    eos: int
    pad: int
    prefix: tuple[int, ...] = ()
    forced: int = 0


@dataclass
class CaptionCodec:
    """A tokenizer, the special ids of the model, and the longest caption [tokens, EOS included] its decoder takes.

    before: text between a prompt and its captions, such as a space where tokens begin with one.
    truncated counts the captions that were cut so far in this process.
    """

    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    limit: int
    before: str = ""
    truncated: int = field(default=0, init=False)

    def tokenize(self, captions: Sequence[Sequence[str]], max_length: int | None = None) -> CaptionTokens:
        """B lists of captions, ragged allowed, as tokens [B, K, L]; EOS is the last scored token of a caption.

        A caption of more than `max_length` tokens (EOS included; the decoder's limit where None) is cut to `max_length`
        tokens without EOS, so that nothing learns to stop there, and `finished` is False for it.
        Raises ValueError on an empty caption, on no captions at all, and on a max_length that the decoder cannot take.
        """
        limit = self._checked_limit(max_length)
        flat = [caption for group in captions for caption in group]
        if not flat:
            raise ValueError("no captions to tokenize: every picture's list of captions is empty")
        texts = [self.before + caption for caption in flat]
        encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        rows, longest, position = [], 1, 0
        for b, group in enumerate(captions):
            row = []
            for k, caption in enumerate(group):
                ids = encoded[position]
                position += 1
                if not ids or not caption.strip():
                    raise ValueError(
                        f"caption {k} of picture {b} in the batch is empty after tokenisation: {caption!r}"
                    )
                ids = [*ids, self.special.eos]
                if len(ids) > limit:
                    self._note_truncated(caption, len(ids), limit)
                    row.append((ids[:limit], False))
                else:
                    row.append((ids, True))
                longest = max(longest, len(row[-1][0]))
            rows.append(row)
        shape = (len(rows), max(len(row) for row in rows), longest)
        ids_bkl = torch.full(shape, self.special.pad, dtype=torch.long)
        mask_bkl = torch.zeros(shape, dtype=torch.bool)
        caption_mask = torch.zeros(shape[:2], dtype=torch.bool)
        finished = torch.zeros(shape[:2], dtype=torch.bool)
        for b, row in enumerate(rows):
            for k, (ids, ended) in enumerate(row):
                ids_bkl[b, k, : len(ids)] = torch.tensor(ids)
                mask_bkl[b, k, : len(ids)] = True
                caption_mask[b, k] = True
                finished[b, k] = ended
        return CaptionTokens(ids_bkl, mask_bkl, caption_mask, finished)

    def decode(self, captions: CaptionTokens) -> list[list[str]]:
        """B lists of captions as text, without special tokens; padded captions are left out."""
        ids, mask = captions.ids.tolist(), captions.mask.tolist()
        present, finished = captions.caption_mask.tolist(), captions.finished.tolist()
        flat = []
        for b, row in enumerate(ids):
            for k, tokens in enumerate(row):
                if present[b][k]:
                    scored = [token for token, kept in zip(tokens, mask[b][k], strict=True) if kept]
                    flat.append(scored[:-1] if finished[b][k] else scored)
        texts = iter(self.tokenizer.batch_decode(flat, skip_special_tokens=True))
        return [[next(texts).strip() for _ in range(sum(row))] for row in present]

    def _checked_limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.limit
        if not 1 <= max_length <= self.limit:
            raise ValueError(
                f"max_length is {max_length}; this decoder takes captions of 1 to {self.limit} tokens, EOS included"
            )
        return max_length

    def _note_truncated(self, caption: str, length: int, limit: int) -> None:
        if self.truncated == 0:
            logger.warning(
                "a caption of %d tokens was cut to %d, without EOS (further ones are cut silently and counted): %r",
                length,
                limit,
                caption[:200],
            )
        self.truncated += 1
