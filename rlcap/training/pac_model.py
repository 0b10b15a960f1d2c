"""The dual encoder in training: pictures and captions to unit vectors, what is frozen computed once."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from captioners.weights import without_progress_bar
from rewards.dual_encoder import DualEncoder
from rewards.dual_encoder_loading import TRAINING_FILE
from rlcap.tracking.run_directory import write_json
from rlcap.training.dual_encoder_tuning import merged

_CAPTIONS_AT_ONCE = 32  # on a CPU, where the padding of a batch costs more than several smaller batches


class PacModel(nn.Module):
    """A dual encoder of which some trains. What holds nothing that trains stays in eval mode, BatchNorm always.

    tuned: the parts in which something trains (see `tune`). dropout_off: all of it stays in eval mode.
    record: what a saved encoder says of its training (see `load_dual_encoder`).
    """

    def __init__(
        self,
        encoder: DualEncoder,
        tuned: Collection[str],
        dropout_off: bool = False,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tuned = frozenset(tuned)
        self.dropout_off = dropout_off
        self.record = dict(record or {})
        self._pooled_texts: dict[str, Tensor] = {}  # of a frozen text tower

    def forward(self, pictures: Tensor, texts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of pictures [N, D] and captions [M, D], and the inverse temperature.

        pictures: pixels [N, 3, H, W], or pooled vectors [N, P] of a frozen tower. texts: of `texts_of`.
        """
        return self.see(pictures), self.read(texts), self.encoder.logit_scale.exp()

    def see(self, pictures: Tensor) -> Tensor:
        """The unit vectors of pictures, [N, D] in float32."""
        pooled = pictures if pictures.ndim == 2 else self.encoder.pool_images(pictures)
        return normalize(self.encoder.project_pooled_images(pooled).float(), dim=-1)

    def read(self, texts: Mapping[str, Tensor]) -> Tensor:
        """The unit vectors of captions, [M, D] in float32."""
        pooled = texts["pooled"] if "pooled" in texts else self._pool_texts(**texts)
        return normalize(self.encoder.project_pooled_texts(pooled).float(), dim=-1)

    def texts_of(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """What `read` takes: tokens; of a frozen text tower the pooled vectors, each caption's computed once."""
        device = self.encoder.device
        if "text" in self.tuned:
            return {name: tensor.to(device) for name, tensor in self.encoder.tokenize(captions).items()}
        missing = [text for text in dict.fromkeys(captions) if text not in self._pooled_texts]
        if missing:
            tokens = {name: tensor.to(device) for name, tensor in self.encoder.tokenize(missing).items()}
            with torch.no_grad():
                self._pooled_texts.update(zip(missing, self._pool_texts(**tokens).float().cpu(), strict=True))
        return {"pooled": torch.stack([self._pooled_texts[text] for text in captions]).to(device)}

    def train(self, mode: bool = True) -> "PacModel":
        """Train mode for what trains."""
        super().train(mode and not self.dropout_off)
        for module in self.modules():
            parameters = list(module.parameters())
            frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
            if frozen or isinstance(module, _BatchNorm):
                module.eval()
        return self

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Layers are computed again in the backward pass (Trainer's key `activation_checkpointing`)."""
        self.encoder.checkpoint_activations()

    def save(self, directory: Path) -> None:
        """Writes the encoder in its plain layout, LoRA merged."""
        with without_progress_bar():
            merged(self.encoder).save_pretrained(directory)
        write_json(directory / TRAINING_FILE, self.record)

    def _pool_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        size = _CAPTIONS_AT_ONCE if input_ids.device.type == "cpu" else len(input_ids)
        lengths = attention_mask.sum(dim=1)
        order = lengths.argsort(stable=True)
        pooled = []
        for batch in order.split(size):
            longest = int(lengths[batch].max())
            pooled.append(self.encoder.pool_texts(input_ids[batch, :longest], attention_mask[batch, :longest]))
        return torch.cat(pooled)[order.argsort()]


def mean_of_frames(frames: Tensor, counts: Tensor) -> Tensor:
    """Unit vectors [M, D] of frames to those of B clips [B, D], of which clip b has the next `counts[b]` frames.

    The normalised mean, as in the coarse score of EMScore; a picture is a clip of one frame.
    """
    if len(frames) == len(counts):
        return frames
    clip_of = torch.repeat_interleave(torch.arange(len(counts), device=frames.device), counts.to(frames.device))
    sums = frames.new_zeros(len(counts), frames.shape[1]).index_add(0, clip_of, frames)
    return normalize(sums, dim=-1)
