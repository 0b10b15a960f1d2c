"""Reward for captions that read as captions do: the probability that a trained head gives them of being real."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rewards import ptb
from rewards.completions import texts
from rewards.fingerprint import fingerprint, versions
from rewards.grammar_model import GrammarModel, normal_form


class Grammar:
    """Reward in [0, 1]: the probability that a caption is real and not broken (CLIP-Caption-Reward's grammar reward).

    path: a directory that `rlcap reward grammar` wrote. batch_size: captions at a time. device: a GPU where there is
    one. An empty caption, or one of punctuation alone, scores 0. Raises ValueError where the directory lacks something
    or its weights do not fit.
    """

    __name__ = "grammar"
    needs: frozenset[str] = frozenset()
    uses_corpus = False

    def __init__(self, *, path: str | Path, batch_size: int = 128, device: str | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"grammar: batch_size is {batch_size}; give at least 1")
        self.path, self.batch_size = str(path), batch_size
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = GrammarModel.load(path).to(self.device)

    @torch.inference_mode()
    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """One value a caption; each distinct one is encoded once, and other columns are ignored."""
        captions = [normal_form(caption) for caption in texts(completions, self.__name__)]
        distinct = sorted({caption for caption in captions if caption}, key=len)  # alike lengths together: less padding
        scores = {"": 0.0}
        for start in range(0, len(distinct), self.batch_size):
            batch = distinct[start : start + self.batch_size]
            tokens = {name: value.to(self.device) for name, value in self.model.tokenize(batch).items()}
            scores |= zip(batch, self.model(**tokens).softmax(1)[:, 1].tolist(), strict=True)
        return [scores[caption] for caption in captions]

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        return {
            "name": self.__name__,
            "path": self.path,
            "base_model": self.model.settings.base_model,
            "weights": fingerprint(self.model),
            "tokenizer": ptb.VERSION,
            **versions("torch", "transformers"),
        }
