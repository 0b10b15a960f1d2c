"""Any VisionEncoderDecoderModel of transformers as a captioner."""

from pathlib import Path

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

from captioners.decoders import TextDecoder
from captioners.lora import QUERY_AND_VALUE
from captioners.text import CaptionCodec
from captioners.whole_model import WholeModel, special_tokens

LORA_TARGETS = {
    # GPT-2 has query, key and value in one matrix; in cross-attention the query has its own.
    "gpt2": ("c_attn", "q_attn"),
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "xlm-roberta": ("query", "value"),
    "bart": ("q_proj", "v_proj"),
    "mbart": ("q_proj", "v_proj"),
    "trocr": ("q_proj", "v_proj"),
}


class EncoderDecoder(WholeModel):
    """A VisionEncoderDecoderModel: vision tower, optional projection, decoder with cross-attention."""

    model_class = VisionEncoderDecoderModel

    def __init__(
        self,
        model: VisionEncoderDecoderModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        max_frames: int = 1,
    ):
        special = special_tokens(model.generation_config, tokenizer)
        codec = CaptionCodec(tokenizer, special, TextDecoder(model.decoder).limit)
        super().__init__(model, image_processor, codec, _state_size(model), max_frames)

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
    def _assembled(
        cls, model: VisionEncoderDecoderModel, directory: Path, max_frames: int, prompt: str | None
    ) -> "EncoderDecoder":
        tokenizer = AutoTokenizer.from_pretrained(directory)
        return cls(model, tokenizer, AutoImageProcessor.from_pretrained(directory), max_frames)

    def parts(self) -> dict[str, list[nn.Module]]:
        projection = [self.model.enc_to_dec_proj] if _projects(self.model) else []
        return {
            "vision": [self.model.encoder],
            "connector": [*projection, *self._of_clips()],
            "decoder": [self.model.decoder],
        }

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        decoder = LORA_TARGETS[self.model.decoder.config.model_type]
        return {"vision": QUERY_AND_VALUE, "connector": ("enc_to_dec_proj",), "decoder": decoder}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.encoder(pixel_values=pixels).last_hidden_state

    def _project(self, features: Tensor) -> Tensor:
        return self.model.enc_to_dec_proj(features) if _projects(self.model) else features

    def _text_model(self) -> PreTrainedModel:
        return self.model.decoder


def _projects(model: VisionEncoderDecoderModel) -> bool:
    # The condition under which transformers makes enc_to_dec_proj; only TrOCR knows cross_attention_hidden_size.
    encoder, decoder = model.encoder.config, model.decoder.config
    own = decoder.cross_attention_hidden_size if decoder.model_type == "trocr" else None
    return encoder.hidden_size != decoder.hidden_size and own is None


def _state_size(model: VisionEncoderDecoderModel) -> int:
    return model.decoder.config.hidden_size if _projects(model) else model.encoder.config.hidden_size
