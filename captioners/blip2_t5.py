"""BLIP-2 with T5 as a captioner: a ViT, a Q-Former, and a T5 whose encoder reads the queries and a prompt."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoProcessor, Blip2ForConditionalGeneration, Blip2Processor, PreTrainedModel

from captioners.decoders import TextDecoder
from captioners.text import CaptionCodec
from captioners.whole_model import WholeModel, read_with_prompt, special_tokens


class Blip2T5(WholeModel):
    """Blip2ForConditionalGeneration around a T5. Q-Former, queries and projection are the connector.

    The whole T5 is the part "decoder": encoder and decoder share one table of words. So what the decoder attends to
    depends on that part too.

    prompt: what T5's encoder reads behind the queries; without one, the BOS token alone, as in `generate`.
    """

    prompt_ids: Tensor
    model_class = Blip2ForConditionalGeneration
    takes_prompt = True
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

    @classmethod
    def _assembled(
        cls, model: Blip2ForConditionalGeneration, directory: Path, max_frames: int, prompt: str | None
    ) -> "Blip2T5":
        return cls(model, AutoProcessor.from_pretrained(directory), max_frames, prompt)

    def parts(self) -> dict[str, list[nn.Module]]:
        # The queries are a bare parameter of the model; the list is a module that holds that very parameter.
        queries = nn.ParameterList([self.model.query_tokens])
        return {
            "vision": [self.model.vision_model],
            "connector": [queries, self.model.qformer, self.model.language_projection, *self._of_clips()],
            "decoder": [self.model.language_model],
        }

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.vision_model(pixel_values=pixels).last_hidden_state

    def _project(self, features: Tensor) -> Tensor:
        queries = self.model.query_tokens.expand(len(features), -1, -1)
        seen = self.model.qformer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state
        return self.model.language_projection(seen)

    def _read(self, states: Tensor) -> Tensor:
        t5 = self.model.language_model
        return read_with_prompt(t5.encoder, t5.shared, self.prompt_ids, states)

    def _text_model(self) -> PreTrainedModel:
        return self.model.language_model


def _bos(model: Blip2ForConditionalGeneration) -> int:
    text: Any = model.config.text_config
    bos: int | None = text.bos_token_id
    if bos is None:
        raise ValueError("the model says no text_config.bos_token_id, which stands for no prompt: set it, or a prompt")
    return bos
