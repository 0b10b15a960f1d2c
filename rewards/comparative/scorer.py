"""A scorer as one directory: both encoders, the head, its calibrations, and what it was trained on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rewards.comparative.calibration import Calibration
from rewards.comparative.encoders import PictureEncoder, SentenceEncoder
from rewards.comparative.head import Head, HeadConfig
from rewards.whole import load_head, save_head

FORMAT = "rlcap comparative scorer 1"
FILE, HEAD, PICTURES, SENTENCES = "scorer.json", "head.safetensors", "picture_encoder", "sentence_encoder"


@dataclass
class Scorer:
    """Encoders and head, which belong together.

    lowercase: captions are lower-cased before they are encoded, as they were in training.
    calibrations: kind -> map of scores to ratings. trained: what the scorer was trained on, for the record.
    """

    pictures: PictureEncoder
    sentences: SentenceEncoder
    head: Head
    lowercase: bool = True
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Scorer":
        """Moves all parts."""
        for part in (self.pictures, self.sentences, self.head):
            part.to(device)
        self.head.eval()
        return self

    def encode_pictures(self, clips: Sequence[Sequence[Image.Image]], batch_size: int) -> Tensor:
        """Vectors [V, P] of V pictures (one frame each) or clips; of a clip the mean over its frames."""
        frames = [frame for clip in clips for frame in clip]
        vectors = torch.cat([self.pictures(self.pictures.preprocess(batch)) for batch in _batches(frames, batch_size)])
        return torch.stack([own.mean(0) for own in vectors.split([len(clip) for clip in clips])])

    def encode_captions(self, captions: Sequence[str], batch_size: int) -> Tensor:
        """Vectors [C, S] of C captions."""
        return caption_vectors(self.sentences, captions, lowercase=self.lowercase, batch_size=batch_size)

    def save(self, directory: str | Path) -> None:
        """Writes everything that scoring needs into `directory`, which is made."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.pictures.save_pretrained(directory / PICTURES)
        self.sentences.save_pretrained(directory / SENTENCES)
        save_head(self.head, directory / HEAD)
        content = {
            "format": FORMAT,
            "head": asdict(self.head.config),
            "lowercase": self.lowercase,
            "picture_encoder": {"pooling": self.pictures.pooling, "fingerprint": self.pictures.fingerprint()},
            "sentence_encoder": {"pooling": self.sentences.pooling, "fingerprint": self.sentences.fingerprint()},
            "calibrations": {kind: asdict(own) for kind, own in self.calibrations.items()},
            "trained": self.trained,
        }
        (directory / FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_scorer(directory: str | Path) -> Scorer:
    """Reads what `Scorer.save` wrote.

    Raises ValueError where the directory is no scorer, where an encoder is not the one that the head was trained on,
    and where the head's weights do not fit, naming them.
    """
    directory = Path(directory)
    content = _content(directory)
    pictures = PictureEncoder.from_pretrained(directory / PICTURES, content["picture_encoder"]["pooling"])
    sentences = SentenceEncoder.from_pretrained(directory / SENTENCES, content["sentence_encoder"]["pooling"])
    for name, encoder in (("picture_encoder", pictures), ("sentence_encoder", sentences)):
        if encoder.fingerprint() != content[name]["fingerprint"]:
            raise ValueError(
                f"{directory / name} is not the encoder that this scorer was trained on: its weights are others"
            )
    head = Head(HeadConfig(**content["head"]))
    load_head(head, directory / HEAD)
    calibrations = {kind: Calibration(**own) for kind, own in content["calibrations"].items()}
    return Scorer(pictures, sentences, head.eval(), content["lowercase"], calibrations, content["trained"])


def caption_vectors(encoder: SentenceEncoder, captions: Sequence[str], *, lowercase: bool, batch_size: int) -> Tensor:
    """Vectors [C, S] of C captions, encoded in batches of about equal lengths."""
    prepared = [caption.lower() if lowercase else caption for caption in captions]
    order = sorted(range(len(prepared)), key=lambda i: len(prepared[i]))
    vectors = torch.cat([encoder([prepared[i] for i in batch]) for batch in _batches(order, batch_size)])
    return torch.empty_like(vectors).index_copy_(0, torch.tensor(order, device=vectors.device), vectors)


def _content(directory: Path) -> dict[str, Any]:
    path = directory / FILE
    if not path.is_file():
        raise ValueError(
            f"{directory} holds no comparative scorer: {FILE} is missing; `rlcap reward comparative` makes one"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is of the format {content.get('format')!r}; this version reads {FORMAT!r}")
    return content


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
