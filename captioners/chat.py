"""Vision-language chat models as captioners: the picture and an instruction are a prefix, by the chat template."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.processing_utils import ProcessorMixin

from captioners.base import Captioner
from captioners.chat_template import PROMPT_IDS, PROMPT_MASK, ChatPreprocessor, answer_format
from captioners.decoders import Decoder
from captioners.fused import fuse_activations
from captioners.lora import QUERY_AND_VALUE
from captioners.prefix import PrefixDecoder, PrefixFamily
from captioners.text import CaptionCodec
from captioners.types import VisualContext
from captioners.weights import load_weights, refuse_random
from captioners.whole_model import stored_prompt, write_prompt

DEFAULT_INSTRUCTION = "Describe this image in one sentence."


@dataclass(frozen=True)
class ChatFamily:
    """Where a family of chat models keeps its parts.

    language: of the model without its head, the language model. vision, connector: likewise; parameters of its own
    are handed over in a list. takes: what `get_image_features` takes of the processor's output. axes: how many numbers
    a position is; several where pictures have rows and columns. connector_layers: those that get LoRA.
    """

    language: Callable[[Any], PreTrainedModel]
    vision: Callable[[Any], list[nn.Module]]
    connector: Callable[[Any], list[nn.Module]]
    takes: tuple[str, ...]
    connector_layers: tuple[str, ...]
    axes: int = 1


def _with_newline(model: Any) -> list[nn.Module]:
    # The vector that ends a row of the grid is a bare parameter of the model.
    return [model.multi_modal_projector, nn.ParameterList([model.image_newline])]


_QWEN = ChatFamily(
    language=lambda model: model.language_model,
    vision=lambda model: [module for name, module in model.visual.named_children() if name != "merger"],
    connector=lambda model: [model.visual.merger],
    takes=("pixel_values", "image_grid_thw"),
    connector_layers=("0", "2"),
    axes=3,
)
_IDEFICS = ChatFamily(
    language=lambda model: model.text_model,
    vision=lambda model: [model.vision_model],
    connector=lambda model: [model.connector],
    takes=("pixel_values", "pixel_attention_mask"),
    connector_layers=("proj",),
)
_LLAVA = ChatFamily(
    language=lambda model: model.language_model,
    vision=lambda model: [model.vision_tower],
    connector=lambda model: [model.multi_modal_projector],
    takes=("pixel_values",),
    connector_layers=("linear_1", "linear_2"),
)
_LLAVA_NEXT = ChatFamily(
    language=_LLAVA.language,
    vision=_LLAVA.vision,
    connector=_with_newline,
    takes=("pixel_values", "image_sizes"),
    connector_layers=_LLAVA.connector_layers,
)
_LLAVA_ONEVISION = ChatFamily(
    language=_LLAVA.language,
    vision=_LLAVA.vision,
    connector=_with_newline,
    takes=("pixel_values", "image_sizes", "batch_num_images"),
    connector_layers=_LLAVA.connector_layers,
)
CHAT_FAMILIES = {
    "idefics3": _IDEFICS,
    "llava": _LLAVA,
    "llava_next": _LLAVA_NEXT,
    "llava_onevision": _LLAVA_ONEVISION,
    "qwen2_5_vl": _QWEN,
    "qwen2_vl": _QWEN,
    "smolvlm": _IDEFICS,
}


class Chat(Captioner):
    """A decoder-only vision-language model that AutoModelForImageTextToText loads, asked by its chat template.

    The prefix is one user message, the picture or the frames of a clip in order and then the instruction, up to where
    the assistant answers; there is no system message beside what a template writes by itself. It runs once for the K
    captions of a picture. Pictures keep the size that the processor gives them, so prefixes differ in length.

    prompt: the instruction; DEFAULT_INSTRUCTION where None, none where "".
    """

    takes_prompt = True

    def __init__(self, model: Any, processor: ProcessorMixin, max_frames: int | None = None, prompt: str | None = None):
        tokenizer: Any = processor.tokenizer
        instruction = DEFAULT_INSTRUCTION if prompt is None else prompt
        special, before = answer_format(processor, instruction, model.generation_config)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(special.pad)
        self._family = CHAT_FAMILIES[model.config.model_type]
        config = self._family.language(model.model).config
        codec = CaptionCodec(tokenizer, special, _positions(config), before)
        super().__init__(ChatPreprocessor(processor, instruction, max_frames), codec)
        fuse_activations(model)
        self.model = model
        self.processor = processor
        self.prompt = instruction

    @classmethod
    def from_pretrained(
        cls, directory: Path, dtype: torch.dtype, max_frames: int | None = None, prompt: str | None = None
    ) -> "Chat":
        """Loads a directory written by transformers or by save_pretrained; prompt None: what is stored there."""
        model_class: Any = AutoModelForImageTextToText
        model, missing = load_weights(model_class, directory, dtype)
        try:
            processor: Any = AutoProcessor.from_pretrained(directory)
        except ImportError as error:  # SmolVLM's numbers in words
            raise ValueError(f"{directory} needs a package that is not here: {error} (extra: rlcap[chat])") from error
        captioner = cls(model, processor, max_frames, stored_prompt(directory) if prompt is None else prompt)
        captioner.to(dtype).eval()
        refuse_random(directory, {f"model.{name}" for name in missing}, captioner.unused_parameters)
        return captioner

    def parts(self) -> dict[str, list[nn.Module]]:
        inner, family = self.model.model, self._family
        return {
            "vision": family.vision(inner),
            "connector": family.connector(inner),
            # One list, in which a head tied to the words counts once.
            "decoder": [nn.ModuleList([family.language(inner), self.model.lm_head])],
        }

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        connector = self._family.connector_layers
        return {"vision": QUERY_AND_VALUE, "connector": connector, "decoder": ("q_proj", "v_proj")}

    def encode(self, visual: dict[str, Tensor]) -> VisualContext:
        """The prefix [B, N, D]: what the connector gives in its places; the words of the prompt as tokens.

        Raises ValueError where the places of the prompt are not as many as what the connector gives.
        """
        ids, mask = visual[PROMPT_IDS], visual[PROMPT_MASK]
        inputs = {name: _as(visual[name], self.dtype) for name in self._family.takes if name in visual}
        seen = torch.cat(list(self.model.model.get_image_features(**inputs, return_dict=True).pooler_output))
        places = (ids == self.model.config.image_token_id) & mask
        if int(places.sum()) != len(seen):
            raise ValueError(f"the prompts have {int(places.sum())} places for pictures, which give {len(seen)} states")
        states = seen.new_zeros(*ids.shape, seen.shape[-1]).masked_scatter(places[..., None], seen)
        return VisualContext(states, mask, ids.masked_fill(places | ~mask, -1), self._positions(visual, places))

    def _positions(self, visual: dict[str, Tensor], places: Tensor) -> Tensor:
        # [B, N], or [B, N, 3] where the grid of a picture has time, rows and columns.
        mask = visual[PROMPT_MASK]
        if self._family.axes == 1:
            return (mask.cumsum(dim=1) - 1).clamp(min=0)
        positions, _ = self.model.model.get_rope_index(
            visual[PROMPT_IDS],
            mm_token_type_ids=places.int(),
            image_grid_thw=visual["image_grid_thw"],
            attention_mask=mask.long(),
        )
        return positions.movedim(0, -1)

    def _decoder(self) -> Decoder:
        language = self._family.language
        return PrefixDecoder(
            self.model,
            PrefixFamily(
                embed=lambda model, ids, positions: model.get_input_embeddings()(ids),
                layers=lambda model, embeddings, positions, mask, cache: (
                    language(model.model)(
                        inputs_embeds=embeddings,
                        position_ids=positions if positions.ndim == 2 else positions.movedim(-1, 0),
                        attention_mask=mask,
                        past_key_values=cache,
                        use_cache=cache is not None,
                    ).last_hidden_state
                ),
                head=lambda model: model.lm_head,
                limit=_positions,
                bidirectional=False,
                positions_in_prefix=True,
                config=lambda model: language(model.model).config,
            ),
        )

    def _text_model(self) -> PreTrainedModel:
        return self.model

    def _inner_models(self) -> list[PreTrainedModel]:
        return [self.model]

    @property
    def _no_split_modules(self) -> list[str]:
        # LLaVA names none: its vision tower and its language model do.
        inside = [module for module in self.model.modules() if isinstance(module, PreTrainedModel)]
        return sorted({name for module in inside for name in module._no_split_modules or ()})

    def _write(self, directory: Path) -> None:
        self.model.save_pretrained(directory)
        self.processor.save_pretrained(directory)
        write_prompt(directory, self.prompt)


def _positions(config: Any) -> int:
    # Where attention has a window, it must hold all: the masks that captions share a prefix under know none.
    window = config.to_dict().get("sliding_window")
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
