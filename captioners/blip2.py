"""What BLIP-2 is with any language model: a ViT, a Q-Former and a projection."""

from pathlib import Path
from typing import Self

from torch import Tensor, nn
from transformers import AutoProcessor, Blip2ForConditionalGeneration, PreTrainedModel

from captioners.whole_model import WholeModel


class Blip2(WholeModel):
    """Blip2ForConditionalGeneration. Q-Former, queries and projection are the connector."""

    model_class = Blip2ForConditionalGeneration
    takes_prompt = True

    @classmethod
    def _assembled(
        cls, model: Blip2ForConditionalGeneration, directory: Path, max_frames: int, prompt: str | None
    ) -> Self:
        return cls(model, AutoProcessor.from_pretrained(directory), max_frames, prompt)  # type: ignore[call-arg, arg-type]

    def parts(self) -> dict[str, list[nn.Module]]:
        # The queries are a bare parameter of the model; the list is a module that holds that very parameter.
        queries = nn.ParameterList([self.model.query_tokens])
        return {
            "vision": [self.model.vision_model],
            "connector": [queries, self.model.qformer, self.model.language_projection, *self._of_clips()],
            "decoder": [self.model.language_model],
        }

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        return {"vision": ("qkv",), "connector": ("query", "value", "language_projection")}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.vision_model(pixel_values=pixels).last_hidden_state

    def _project(self, features: Tensor) -> Tensor:
        queries = self.model.query_tokens.expand(len(features), -1, -1)
        seen = self.model.qformer(query_embeds=queries, encoder_hidden_states=features).last_hidden_state
        return self.model.language_projection(seen)

    def _text_model(self) -> PreTrainedModel:
        return self.model.language_model
