"""Florence-2 as a captioner: a DaViT, and a BART whose encoder reads the picture and a task."""

from math import isqrt
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoProcessor,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from captioners.decoders import TextDecoder
from captioners.text import CaptionCodec
from captioners.whole_model import WholeModel, read_with_prompt, special_tokens

DEFAULT_PROMPT = "<CAPTION>"


class Florence2(WholeModel):
    """Florence2ForConditionalGeneration of transformers (the checkpoints of florence-community, not the remote code).

    The whole language model is the part "decoder": its encoder, its decoder and its head share one table of words. So
    what the decoder attends to depends on that part too.

    prompt: a task of Florence-2 without input, or a question in words, which its processor turns into what the encoder
    reads behind the picture.
    """

    prompt_ids: Tensor
    model_class = Florence2ForConditionalGeneration
    takes_prompt = True
    context_parts = ("vision", "connector", "decoder")

    def __init__(
        self,
        model: Florence2ForConditionalGeneration,
        processor: Florence2Processor,
        max_frames: int = 1,
        prompt: str | None = None,
    ):
        text: Any = model.config.text_config
        vision: Any = model.config.vision_config
        if text.model_type != "bart":
            raise ValueError(f"the language model is a {text.model_type!r}; Florence-2 is supported with 'bart'")
        tokenizer = processor.tokenizer
        special = special_tokens(model.generation_config, tokenizer, _what_captions_begin_with(tokenizer))
        codec = CaptionCodec(tokenizer, special, TextDecoder(model).limit - len(special.prefix))
        super().__init__(model, processor, codec, vision.projection_dim, max_frames)
        self.prompt = DEFAULT_PROMPT if prompt is None else prompt
        ids = _prompt_ids(processor, self.prompt)
        self.register_buffer("prompt_ids", ids[ids != model.config.image_token_id], persistent=False)

    @classmethod
    def _assembled(
        cls, model: Florence2ForConditionalGeneration, directory: Path, max_frames: int, prompt: str | None
    ) -> "Florence2":
        return cls(model, AutoProcessor.from_pretrained(directory), max_frames, prompt)

    def parts(self) -> dict[str, list[nn.Module]]:
        language, head = self.model.model.language_model, self.model.lm_head
        tied = head.weight is language.shared.weight
        return {
            "vision": [self.model.model.vision_tower],
            "connector": [self.model.model.multi_modal_projector, *self._of_clips()],
            "decoder": [language] if tied else [language, head],
        }

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        return {"vision": ("qkv",), "connector": ("image_projection",), "decoder": ("q_proj", "v_proj")}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.model.vision_tower(pixels).last_hidden_state.flatten(2).transpose(1, 2)

    def _project(self, features: Tensor) -> Tensor:
        side = isqrt(features.shape[1])
        if side**2 != features.shape[1]:
            raise ValueError(
                f"the grid has {features.shape[1]} positions, which are no square: Florence-2 takes square pictures"
            )
        return self.model.model.multi_modal_projector(features.transpose(1, 2).unflatten(2, (side, side)))

    def _read(self, states: Tensor) -> Tensor:
        language = self.model.model.language_model
        return read_with_prompt(language.encoder, language.shared, self.prompt_ids, states)

    def _text_model(self) -> PreTrainedModel:
        return self.model


def _prompt_ids(processor: Florence2Processor, prompt: str) -> Tensor:
    # With a picture, whatever it shows: only then are <s> and </s> put around the prompt.
    return processor(images=Image.new("RGB", (64, 64)), text=prompt, return_tensors="pt")["input_ids"][0]


def _what_captions_begin_with(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    # Florence-2 was trained on "<s> caption </s>" behind its start token </s>: <s> is given, as generate forces it.
    ids = tokenizer("a")["input_ids"]
    return (tokenizer.bos_token_id,) if ids[0] == tokenizer.bos_token_id else ()
