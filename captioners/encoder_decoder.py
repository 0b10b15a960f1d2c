"""Any VisionEncoderDecoderModel of transformers as a captioner."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

from captioners.base import Captioner
from captioners.decoders import TextDecoder
from captioners.frames import TemporalEmbedding, extended
from captioners.preprocess import Preprocessor
from captioners.text import CaptionCodec, SpecialTokens
from captioners.types import VisualContext
from captioners.weights import load_weights, refuse_random

TEMPORAL_FILE = "temporal_embedding.safetensors"


class EncoderDecoder(Captioner):
    """A VisionEncoderDecoderModel: vision tower, optional projection, decoder with cross-attention.

    Saved in its own layout, so `VisionEncoderDecoderModel.from_pretrained(directory)` loads it; the temporal embedding
    of a captioner of clips (max_frames > 1) is one more file there.
    """

    def __init__(
        self,
        model: VisionEncoderDecoderModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        max_frames: int = 1,
    ):
        special = _special_tokens(model, tokenizer)
        super().__init__(
            Preprocessor(image_processor), CaptionCodec(tokenizer, special, TextDecoder(model.decoder).limit)
        )
        self.model = model
        self.temporal = TemporalEmbedding(max_frames, _state_size(model)) if max_frames > 1 else None

    @classmethod
    def create(
        cls,
        vision: PreTrainedConfig,
        decoder: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
    ) -> "EncoderDecoder":
        """An untrained captioner of two configurations, with weights from torch's global generator.

        Captions start with the tokenizer's BOS and end with its EOS.
        """
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, decoder)
        model = VisionEncoderDecoderModel(config)
        model.generation_config.decoder_start_token_id = tokenizer.bos_token_id
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        return cls(model, tokenizer, image_processor)

    @classmethod
    def from_pretrained(cls, directory: Path, dtype: torch.dtype, max_frames: int | None = None) -> "EncoderDecoder":
        """Loads a directory written by transformers or by save_pretrained; max_frames None: what is stored there."""
        model, missing = load_weights(VisionEncoderDecoderModel, directory, dtype)
        stored = directory / TEMPORAL_FILE
        weight = load_file(stored)["weight"] if stored.is_file() else None
        if max_frames is None:
            max_frames = 1 if weight is None else len(weight)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        captioner = cls(model, tokenizer, AutoImageProcessor.from_pretrained(directory), max_frames)
        if weight is not None and captioner.temporal is not None:
            captioner.temporal.weight.data.copy_(extended(weight, max_frames))
        captioner.to(dtype).eval()
        refuse_random(directory, {f"model.{name}" for name in missing}, captioner.unused_parameters)
        return captioner

    def parts(self) -> dict[str, list[nn.Module]]:
        connector: list[nn.Module] = [self.model.enc_to_dec_proj] if _projects(self.model) else []
        if self.temporal is not None:
            connector.append(self.temporal)
        return {"vision": [self.model.encoder], "connector": connector, "decoder": [self.model.decoder]}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.encoder(pixel_values=pixels).last_hidden_state

    def _connect(self, features: Tensor, frame_mask: Tensor | None) -> VisualContext:
        states = self.model.enc_to_dec_proj(features) if _projects(self.model) else features
        if self.temporal is not None:
            states = self.temporal(states, frame_mask)
        elif states.shape[1] > 1:
            raise ValueError(
                f"clips of {states.shape[1]} frames need max_frames: captioners.load(path, max_frames=...)"
            )
        mask = None if frame_mask is None else frame_mask.repeat_interleave(states.shape[2], dim=1)
        return VisualContext(states.flatten(1, 2), mask)

    def _text_model(self) -> PreTrainedModel:
        return self.model.decoder

    def _inner_models(self) -> list[PreTrainedModel]:
        return [self.model]

    def _write(self, directory: Path) -> None:
        self.model.save_pretrained(directory)
        self.preprocessor.processor.save_pretrained(directory)
        (directory / TEMPORAL_FILE).unlink(missing_ok=True)
        if self.temporal is not None:
            save_file({"weight": self.temporal.weight.detach().cpu().contiguous()}, directory / TEMPORAL_FILE)


def _projects(model: VisionEncoderDecoderModel) -> bool:
    # The condition under which transformers makes enc_to_dec_proj; only TrOCR knows cross_attention_hidden_size.
    encoder, decoder = model.encoder.config, model.decoder.config
    own = decoder.cross_attention_hidden_size if decoder.model_type == "trocr" else None
    return encoder.hidden_size != decoder.hidden_size and own is None


def _state_size(model: VisionEncoderDecoderModel) -> int:
    return model.decoder.config.hidden_size if _projects(model) else model.encoder.config.hidden_size


def _special_tokens(model: VisionEncoderDecoderModel, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    generation = model.generation_config
    start = generation.decoder_start_token_id
    eos = generation.eos_token_id if generation.eos_token_id is not None else tokenizer.eos_token_id
    if isinstance(eos, list):
        eos = eos[0]
    pad = generation.pad_token_id if generation.pad_token_id is not None else tokenizer.pad_token_id
    pad = eos if pad is None else pad
    for name, value in {"decoder_start_token_id": start, "eos_token_id": eos}.items():
        if value is None:
            raise ValueError(
                f"the model says no {name}: set it in its generation_config.json, as `generate` needs it too"
            )
    return SpecialTokens(start, eos, pad)
