"""Judged captions as vectors: every picture and every caption through its frozen encoder once, and kept on the disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from captioners.frames import frame_features
from captioners.preprocess import Preprocessor
from captioners.vision import GridVision
from rewards.comparative.encoders import PictureEncoder, SentenceEncoder
from rewards.comparative.scorer import caption_vectors
from rlcap.console import progress
from rlcap.data.features import FeatureStore
from rlcap.data.judgments import JudgedCaption, Judgments
from rlcap.data.write_features import stored_features, write_features
from rlcap.disk import writing

_CAPTIONS_AT_A_TIME = 1024


@dataclass(frozen=True)
class JudgedVectors:
    """N judged captions: vectors of V pictures [V, P] and C captions [C, S], and which of them each one is.

    picture_of, sentence_of: [N]. ratings: mean ratings [N], NaN where there are none. preferences: [Q, 2], better
    first.
    """

    pictures: Tensor
    sentences: Tensor
    picture_of: Tensor
    sentence_of: Tensor
    ratings: np.ndarray
    preferences: np.ndarray

    def __len__(self) -> int:
        return len(self.ratings)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of pictures [B, P] and captions [B, S] at an index [B]."""
        return self.pictures[self.picture_of[index]], self.sentences[self.sentence_of[index]]


class _SeesPictures(nn.Module):
    """The picture encoder as `write_features` wants it: one vector a frame as a grid of one position."""

    def __init__(self, encoder: PictureEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.preprocessor = Preprocessor(encoder.processor)

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def parts(self) -> dict[str, list[nn.Module]]:
        return {"vision": [self.encoder]}

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        return frame_features(lambda pixels: self.encoder(pixels)[:, None], visual, torch.float32)


def picture_store(
    encoder: PictureEncoder,
    captions: Sequence[JudgedCaption],
    folder: Path,
    *,
    grids: str | None,
    batch_size: int,
    max_bad_images: float,
) -> FeatureStore:
    """The vectors of all pictures, and of clips' frames: written into `folder`, where a killed run goes on.

    grids: a folder of `rlcap features` to read instead; ValueError where it is of another model, or pictures are
    missing. ValueError too where `folder` has the vectors of another model or pooling.
    """
    pictures = {caption.image_id: caption.pictures for caption in captions}
    single = all(len(own) == 1 for own in pictures.values())
    visuals = [own[0] for own in pictures.values()] if single else [list(own) for own in pictures.values()]
    dataset = Dataset.from_dict({"image_id": list(pictures), "image" if single else "frames": visuals})
    if grids is None:
        return write_features(
            _SeesPictures(encoder),
            dataset,
            folder,
            batch_size=batch_size,
            max_bad_images=max_bad_images,
            made_with={"pooling": encoder.pooling},
        )
    return stored_features(grids, GridVision(encoder.model, Preprocessor(encoder.processor)), dataset)


def vectors_of(judgments: Judgments, store: FeatureStore, pooling: str, sentences: dict[str, Tensor]) -> JudgedVectors:
    """The judgments as vectors; captions whose picture could not be decoded are left out.

    pooling: over the positions of a grid (`mean` or `first`); of a single position either is the position itself.
    """
    kept = [i for i, caption in enumerate(judgments.captions) if caption.image_id not in store.bad]
    new = {old: i for i, old in enumerate(kept)}
    captions = [judgments.captions[i] for i in kept]
    ids = {image_id: i for i, image_id in enumerate(dict.fromkeys(caption.image_id for caption in captions))}
    texts = {text: i for i, text in enumerate(dict.fromkeys(caption.caption for caption in captions))}
    pairs = [(new[a], new[b]) for a, b in judgments.preferences if a in new and b in new]
    return JudgedVectors(
        torch.stack([_pooled(store[image_id], pooling) for image_id in ids]),
        torch.stack([sentences[text] for text in texts]),
        torch.tensor([ids[caption.image_id] for caption in captions]),
        torch.tensor([texts[caption.caption] for caption in captions]),
        np.array([caption.rating for caption in captions]),
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
    )


def _pooled(stored: np.ndarray, pooling: str) -> Tensor:
    """A picture's [F, N, P] as one vector [P]: of its frames the mean."""
    frames = torch.from_numpy(stored).float()
    return (frames[:, 0] if pooling == "first" else frames.mean(1)).mean(0)


def sentence_vectors(
    encoder: SentenceEncoder, captions: Sequence[str], file: Path, *, lowercase: bool, batch_size: int
) -> dict[str, Tensor]:
    """Caption -> vector [S]; read from `file`, where what is missing is added.

    A file of another encoder, or with the other `lowercase`, is refused with ValueError.
    """
    made_by = {"encoder": encoder.fingerprint(), "lowercase": str(lowercase)}
    known = _read_vectors(file, made_by)
    missing = [caption for caption in dict.fromkeys(captions) if caption not in known]
    with progress(total=len(missing), desc="captions", unit="caption", disable=not missing) as bar:
        for start in range(0, len(missing), _CAPTIONS_AT_A_TIME):
            batch = missing[start : start + _CAPTIONS_AT_A_TIME]
            vectors = caption_vectors(encoder, batch, lowercase=lowercase, batch_size=batch_size).cpu()
            known |= dict(zip(batch, vectors, strict=True))
            _write_vectors(file, known, made_by)
            bar.update(len(batch))
    return known


def _read_vectors(file: Path, made_by: dict[str, str]) -> dict[str, Tensor]:
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as content:
        header: dict[str, Any] = content.metadata() or {}
        if {key: header.get(key) for key in made_by} != made_by:
            raise ValueError(
                f"{file} holds captions of another sentence encoder or spelling; choose another `features`"
            )
        return dict(zip(json.loads(header["captions"]), content.get_tensor("vectors"), strict=True))


def _write_vectors(file: Path, vectors: dict[str, Tensor], made_by: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".unfinished")
    header = {**made_by, "captions": json.dumps(list(vectors), ensure_ascii=False)}
    with writing("the vectors of captions", file.parent):
        save_file({"vectors": torch.stack(list(vectors.values()))}, unfinished, header)
        unfinished.replace(file)
