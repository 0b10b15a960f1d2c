"""BLIP-2 with T5 as a captioner: a ViT, a Q-Former, and a T5 whose encoder reads the queries and a prompt."""

from typing import Any

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from captioners.blip2 import Blip2
from captioners.decoders import TextDecoder
from captioners.text import CaptionCodec
from captioners.whole_model import read_with_prompt, special_tokens


class Blip2T5(Blip2):
    """Blip2ForConditionalGeneration around a T5.

    The whole T5 is the part "decoder": encoder and decoder share one table of words. So what the decoder attends to
    depends on that part too.

    prompt: what T5's encoder reads behind the queries; without one, the BOS token alone, as in `generate`.
    """

    prompt_ids: Tensor
    context_parts = ("vision", "connector", "decoder")

    def __init__(
        self,
        model: Blip2ForConditionalGeneration,
        processor: Blip2Processor,
        max_frames: int = 1,
        prompt: str | None = None,
    ):
        t5, tokenizer = model.language_model, processor.tokenizer
        special = special_tokens(t5.generation_config, tokenizer)
        codec = CaptionCodec(tokenizer, special, TextDecoder(t5).limit)
        super().__init__(model, processor, codec, t5.config.d_model, max_frames)
        self.prompt = prompt
        ids = tokenizer(prompt)["input_ids"] if prompt else [_bos(model)]
        self.register_buffer("prompt_ids", torch.tensor(ids), persistent=False)

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        return {**super().lora_targets(), "decoder": ("q", "v")}

    def _read(self, states: Tensor) -> Tensor:
        t5 = self.model.language_model
        return read_with_prompt(t5.encoder, t5.shared, self.prompt_ids, states)


def _bos(model: Blip2ForConditionalGeneration) -> int:
    text: Any = model.config.text_config
    bos = text.bos_token_id
    if bos is None:
        raise ValueError("the model says no text_config.bos_token_id, which stands for no prompt: set it, or a prompt")
    return bos
