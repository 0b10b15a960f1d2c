"""BLIP as a captioner: a ViT, and a BERT decoder that attends to it."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoProcessor, BlipForConditionalGeneration, BlipProcessor, PreTrainedModel

from captioners.decoders import TextDecoder
from captioners.text import CaptionCodec, SpecialTokens
from captioners.whole_model import WholeModel


class Blip(WholeModel):
    """BlipForConditionalGeneration. Vision and decoder meet in cross-attention, so only clips have a connector.

    prompt: what every caption goes on from ("a picture of"), as `generate` takes it; it is fed and not scored, and
    neither references nor decoded captions hold it.
    """

    model_class = BlipForConditionalGeneration
    takes_prompt = True

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        processor: BlipProcessor,
        max_frames: int = 1,
        prompt: str | None = None,
    ):
        tokenizer = processor.tokenizer
        text: Any = model.config.text_config
        prefix = tuple(tokenizer(prompt or "", add_special_tokens=False)["input_ids"])
        special = SpecialTokens(text.bos_token_id, text.sep_token_id, text.pad_token_id, prefix)
        codec = CaptionCodec(tokenizer, special, TextDecoder(model.text_decoder).limit - len(prefix))
        super().__init__(model, processor, codec, text.encoder_hidden_size, max_frames)
        self.prompt = prompt
        layers: Any = model.text_decoder.bert.encoder.layer
        for layer in layers:
            layer.crossattention.self.register_forward_pre_hook(_mask_the_picture, with_kwargs=True)

    @classmethod
    def _assembled(
        cls, model: BlipForConditionalGeneration, directory: Path, max_frames: int, prompt: str | None
    ) -> "Blip":
        return cls(model, AutoProcessor.from_pretrained(directory), max_frames, prompt)

    def parts(self) -> dict[str, list[nn.Module]]:
        return {
            "vision": [self.model.vision_model],
            "connector": self._of_clips(),
            "decoder": [self.model.text_decoder],
        }

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        return {"vision": ("qkv",), "decoder": ("query", "value")}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.vision_model(pixel_values=pixels).last_hidden_state

    def _text_model(self) -> PreTrainedModel:
        return self.model.text_decoder


def _mask_the_picture(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    # transformers (5.23) hands cross-attention its mask under a name that it does not read there: clips need it.
    return args, {**kwargs, "encoder_attention_mask": kwargs["attention_mask"]}
