"""CLIP-S, PAC-S and PAC-S++ (arXiv 2104.08718, 2303.12112, 2410.07336) as rewards, with references and for clips."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rewards.clip_features import Features
from rewards.clip_protocols import Names, PictureProtocol, Vectors, VideoProtocol
from rewards.completions import column, texts
from rewards.dual_encoder import DualEncoder
from rewards.dual_encoder_loading import is_open_clip_name, load_dual_encoder
from rewards.fingerprint import versions
from rewards.pictures import Pictures
from rewards.references import checked_references


class ClipS:
    """Reward: w x max(cos(picture, caption), 0) of a dual encoder; of clips EMScore(X, V), without prefix, w and clamp.

    backbone: what `load_dual_encoder` takes (OpenAI's ViT-B/32 by default), or a DualEncoder. checkpoint: a file in
        OpenAI's layout for it.
    w: None is the published one: 2.5 for CLIP-S, 2 for PAC-S, 2.5 for PAC-S++ (that of aimagelab's
        awesome-captioning-evaluation; the code of pacscore takes 2).
    prefix: laid before every caption, with a space between; "" is none. clamp: False lets cosines below 0 count.
    reference_w, clamp_references, mean: of the ref- forms with pictures. As published the largest cosine to a reference
        is neither scaled nor clamped, and the mean "harmonic"; the other one is "arithmetic".
    video: whether to score by EMScore; None does so for every row of several frames, and of one where the column
        `is_clip` says so.
    granularity: of EMScore: "both" (the mean), "coarse" or "fine". idf: whether it weighs tokens by their inverse
        document frequency in `corpus` (image_id -> references of the training clips); False weighs all alike.
    device: None is the GPU if there is one. autocast: "float16" or "bfloat16"; None is float32, as published.
    batch_size: pictures, or captions, encoded at once. cached_vectors: of pictures (by image_id, else by their
        pixels) and references to keep from call to call, 2 kB each at 512 dimensions; what an image_id shows must not
        change.

    Raises ValueError where weights cannot be had or do not match the backbone.
    """

    __name__ = "clip-s"
    needs = frozenset({"images"})
    uses_corpus = True
    lazy_images = True
    published_w = 2.5
    default_backbone = "ViT-B-32:openai"

    def __init__(
        self,
        *,
        backbone: str | Path | DualEncoder | None = None,
        checkpoint: str | Path | None = None,
        w: float | None = None,
        prefix: str = "A photo depicts",
        clamp: bool = True,
        reference_w: float = 1.0,
        clamp_references: bool = False,
        mean: str = "harmonic",
        video: bool | None = None,
        granularity: str = "both",
        idf: bool = True,
        corpus: Mapping[str, Sequence[str]] | None = None,
        device: str | None = None,
        autocast: str | None = None,
        batch_size: int = 64,
        cached_vectors: int = 100_000,
    ) -> None:
        if "references" not in self.needs and (reference_w, clamp_references, mean) != (1.0, False, "harmonic"):
            raise ValueError(
                f"{self.__name__} reads no references; reference_w, clamp_references and mean are options of "
                f"ref-{self.__name__}"
            )
        w = self.published_w if w is None else float(w)
        self.pictures = PictureProtocol(w, prefix, clamp, reference_w, clamp_references, mean)
        self.clips = VideoProtocol(granularity, idf, corpus)
        self.video = video
        self.features = Features(
            self._encoder(backbone or self.default_backbone, checkpoint),
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            autocast=autocast,
            batch_size=batch_size,
            capacity=cached_vectors,
        )

    def __call__(
        self,
        completions: Sequence[Any],
        *,
        images: Sequence[Any] | None = None,
        image: Sequence[Any] | None = None,
        image_id: Sequence[Any] | None = None,
        references: Sequence[Sequence[str]] | None = None,
        is_clip: Sequence[bool] | None = None,
        **columns: Any,
    ) -> list[float]:
        """One score a caption. `images`: PIL pictures, or lists of them (frames); or TRL's column `image`.

        is_clip: whether a row is a clip, which a list of a single picture does not tell: TRL hands pictures over so.
        What else is in the call changes no score. Raises ValueError naming the row of what is no picture, or has
        several where `video` is False.
        """
        captions = texts(completions, self.__name__)
        pictures = Pictures(images, image, image_id, len(captions), self.__name__)
        own: list[tuple[str, ...]] = [()] * len(captions)
        if "references" in self.needs:
            of_picture = checked_references(references, image_id, len(captions), self.__name__)
            own = [tuple(of_one) for _, of_one in of_picture]
        seen = self.features.pictures(pictures)
        clips = self._clips(seen, pictures.names, is_clip)
        scores = [0.0] * len(captions)
        for protocol, of_clips in ((self.clips, True), (self.pictures, False)):
            rows = [row for row in range(len(captions)) if (row in clips) is of_clips]
            told, names = [captions[row] for row in rows], [pictures.names[row] for row in rows]
            values = protocol(self.features, told, seen, names, [own[row] for row in rows])
            for row, value in zip(rows, values, strict=True):
                scores[row] = value
        return scores

    def describe(self) -> Mapping[str, Any]:
        """What determines the score."""
        pictures = asdict(self.pictures)
        if "references" not in self.needs:
            pictures = {name: pictures[name] for name in ("w", "prefix", "clamp")}
        return {
            "name": self.__name__,
            **self.features.encoder.describe(),
            "autocast": self.features.autocast,
            **pictures,
            "video": self.video,
            "granularity": self.clips.granularity,
            "idf": self.clips.idf,
            "idf_corpus": self.clips.corpus_fingerprint(),
            **versions("torch", "pillow"),
        }

    def _encoder(self, backbone: str | Path | DualEncoder, checkpoint: str | Path | None) -> DualEncoder:
        if not isinstance(backbone, DualEncoder):
            return load_dual_encoder(backbone, checkpoint=checkpoint)
        if checkpoint is not None:
            raise ValueError(f"{self.__name__}: checkpoint is {checkpoint}, but the backbone is loaded already")
        return backbone

    def _clips(self, seen: Vectors, names: Names, is_clip: Sequence[bool] | None) -> set[int]:
        """The rows that EMScore scores."""
        several = [row for row, name in enumerate(names) if len(seen[name]) > 1]
        if several and self.video is False:
            raise ValueError(
                f"{self.__name__}: row {several[0]} has {len(seen[names[several[0]]])} pictures, and video is False; "
                "give one picture a caption, or leave video out, to score clips by EMScore"
            )
        if self.video is not None:
            return set(range(len(names))) if self.video else set()
        told = [] if is_clip is None else column(is_clip, "is_clip", len(names), self.__name__)
        return {*several, *(row for row, clip in enumerate(told) if clip)}


class PacS(ClipS):
    """Reward: PAC-S, as CLIP-S with weights that were trained with generated positives. Options are those of ClipS.

    The published files as `checkpoint`: clip_ViT-B-32.pth on ViT-B-32-quickgelu (the default), openClip_ViT-L-14.pth on
    ViT-L-14. Or `backbone` is a dual encoder that was trained so, without a checkpoint.
    Raises ValueError also for an open_clip name without a checkpoint, whose weights would be those of plain CLIP.
    """

    __name__ = "pac-s"
    published_w = 2.0
    default_backbone = "ViT-B-32-quickgelu"

    def _encoder(self, backbone: str | Path | DualEncoder, checkpoint: str | Path | None) -> DualEncoder:
        if checkpoint is None and is_open_clip_name(backbone):
            raise ValueError(
                f"{self.__name__}: {backbone} without a checkpoint is plain CLIP at best; give checkpoint=FILE (the "
                "published weights), or as backbone the directory of a dual encoder trained for it"
            )
        return super()._encoder(backbone, checkpoint)


class PacSPlusPlus(PacS):
    """Reward: PAC-S++, of weights that were trained with LoRA. Options are those of ClipS.

    The published files as `checkpoint`: PAC++_clip_ViT-B-32.pth on ViT-B-32-quickgelu (the default),
    PAC++_clip_ViT-L-14.pth on ViT-L-14-quickgelu.
    """

    __name__ = "pac-s++"
    published_w = 2.5


class RefClipS(ClipS):
    """Reward: the mean of CLIP-S and the largest cosine of a caption and a reference; of clips EMScore(X, V, X*)."""

    __name__ = "ref-clip-s"
    needs = frozenset({"images", "references"})


class RefPacS(PacS):
    """Reward: PAC-S with references, as RefClipS."""

    __name__ = "ref-pac-s"
    needs = frozenset({"images", "references"})


class RefPacSPlusPlus(PacSPlusPlus):
    """Reward: PAC-S++ with references, as RefClipS."""

    __name__ = "ref-pac-s++"
    needs = frozenset({"images", "references"})
