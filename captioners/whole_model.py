"""Captioners that are one Hugging Face model, seen whole: saved in its own layout, with clips as several pictures."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BaseImageProcessor, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from captioners.frames import TemporalEmbedding, extended
from captioners.fused import fuse_activations
from captioners.grids import GridCaptioner
from captioners.preprocess import Preprocessor
from captioners.text import CaptionCodec, SpecialTokens
from captioners.types import VisualContext
from captioners.weights import load_weights, refuse_random

TEMPORAL_FILE = "temporal_embedding.safetensors"
PROMPT_FILE = "prompt.json"


class WholeModel(GridCaptioner):
    """A captioner around one model of transformers, which `model_class.from_pretrained(directory)` loads as it is.

    Two files of ours may lie beside: the temporal embedding of a captioner of clips (max_frames > 1), and the prompt.
    A frame is projected and, where the language model has an encoder, read with the prompt on its own; the decoder
    attends to all frames. So a clip of F frames costs F pictures, needs no more positions than one, and frames that
    pad a batch change nothing.

    processor: what is saved beside the model, an image processor or what holds one. state_size: the width of what
    `_project` gives.
    """

    model_class: ClassVar[type[PreTrainedModel]]

    def __init__(
        self,
        model: Any,
        processor: BaseImageProcessor | ProcessorMixin,
        codec: CaptionCodec,
        state_size: int,
        max_frames: int,
    ):
        pictures: Any = processor.image_processor if isinstance(processor, ProcessorMixin) else processor
        super().__init__(Preprocessor(pictures), codec)
        fuse_activations(model)
        self.model = model
        self.processor = processor
        self.temporal = TemporalEmbedding(max_frames, state_size) if max_frames > 1 else None

    # What an adapter brings beside

    @classmethod
    @abstractmethod
    def _assembled(cls, model: Any, directory: Path, max_frames: int, prompt: str | None) -> Self:
        """The captioner of a loaded model and what lies beside it in its directory."""

    def _project(self, features: Tensor) -> Tensor:
        """Features [M, N, Dv] of M frames to [M, N', D], to which the order of frames is added."""
        return features

    def _read(self, states: Tensor) -> Tensor:
        """[M, N', D] to the [M, N", D] that the decoder attends to."""
        return states

    # What follows from it

    @classmethod
    def from_pretrained(
        cls, directory: Path, dtype: torch.dtype, max_frames: int | None = None, prompt: str | None = None
    ) -> Self:
        """Loads a directory written by transformers or by save_pretrained; None: what is stored there."""
        model, missing = load_weights(cls.model_class, directory, dtype)
        stored = directory / TEMPORAL_FILE
        weight = load_file(stored)["weight"] if stored.is_file() else None
        if max_frames is None:
            max_frames = 1 if weight is None else len(weight)
        if prompt is None:
            prompt = stored_prompt(directory)
        captioner = cls._assembled(model, directory, max_frames, prompt)
        if weight is not None and captioner.temporal is not None:
            captioner.temporal.weight.data.copy_(extended(weight, max_frames))
        captioner.to(dtype).eval()
        refuse_random(directory, {f"model.{name}" for name in missing}, captioner.unused_parameters)
        return captioner

    def _connect(self, features: Tensor, frame_mask: Tensor | None) -> VisualContext:
        shape = features.shape[:2]
        states = self._project(features.flatten(0, 1)).unflatten(0, shape)
        states = self._in_order(states, frame_mask)
        states = self._read(states.flatten(0, 1)).unflatten(0, shape)
        mask = None if frame_mask is None else frame_mask.repeat_interleave(states.shape[2], dim=1)
        return VisualContext(states.flatten(1, 2), mask)

    def _in_order(self, states: Tensor, frame_mask: Tensor | None) -> Tensor:
        # [B, F, N', D] with the order of frames in them.
        if self.temporal is not None:
            return self.temporal(states, frame_mask)
        if states.shape[1] > 1:
            raise ValueError(
                f"clips of {states.shape[1]} frames need max_frames: captioners.load(path, max_frames=...)"
            )
        return states

    def _of_clips(self) -> list[nn.Module]:
        # What every connector holds beside its own.
        return [] if self.temporal is None else [self.temporal]

    def _inner_models(self) -> list[PreTrainedModel]:
        return [self.model]

    def _write(self, directory: Path) -> None:
        self.model.save_pretrained(directory)
        self.processor.save_pretrained(directory)
        (directory / TEMPORAL_FILE).unlink(missing_ok=True)
        if self.temporal is not None:
            save_file({"weight": self.temporal.weight.detach().cpu().contiguous()}, directory / TEMPORAL_FILE)
        write_prompt(directory, self.prompt)


def read_with_prompt(encoder: PreTrainedModel, words: nn.Module, prompt_ids: Tensor, states: Tensor) -> Tensor:
    """What a language model's encoder makes [M, N + P, D] of states [M, N, D] and, behind them, a prompt's P tokens."""
    prompt = words(prompt_ids).expand(len(states), -1, -1)
    # Under autocast a projection gives another type than a table of words.
    inputs = torch.cat([states, prompt.to(states.dtype)], dim=1)
    return encoder(inputs_embeds=inputs).last_hidden_state


def special_tokens(
    generation: GenerationConfig,
    tokenizer: PreTrainedTokenizerBase,
    forced: tuple[int, ...] = (),
    start: str = "decoder_start_token_id",
) -> SpecialTokens:
    """The start (by its key), EOS and pad ids of a generation configuration; EOS and pad may be the tokenizer's.

    forced: what `generate` forces behind the start token.

    Raises ValueError where there is no start token or no EOS.
    """
    first = getattr(generation, start)
    eos = generation.eos_token_id if generation.eos_token_id is not None else tokenizer.eos_token_id
    if isinstance(eos, list):
        eos = eos[0]
    pad = generation.pad_token_id if generation.pad_token_id is not None else tokenizer.pad_token_id
    pad = eos if pad is None else pad
    for name, value in {start: first, "eos_token_id": eos}.items():
        if value is None:
            raise ValueError(
                f"the model says no {name}: set it in its generation_config.json, as `generate` needs it too"
            )
    return SpecialTokens(first, eos, pad, forced, len(forced))


def write_prompt(directory: Path, prompt: str | None) -> None:
    """Writes the prompt beside a model, or, where there is none, removes what an earlier captioner left there."""
    stored = directory / PROMPT_FILE
    stored.unlink(missing_ok=True)
    if prompt is not None:
        stored.write_text(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n", encoding="utf-8")


def stored_prompt(directory: Path) -> str | None:
    """The prompt that lies beside a model; ValueError where the file is not one."""
    stored = directory / PROMPT_FILE
    if not stored.is_file():
        return None
    try:
        return str(json.loads(stored.read_text(encoding="utf-8"))["prompt"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{stored} must hold {{"prompt": "…"}}: {error}') from error
