"""GIT as a captioner: a CLIP tower, and a BERT-like decoder that reads its grid as a prefix."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    GitForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from captioners.decoders import Decoder
from captioners.frames import add_to_frames
from captioners.prefix import PrefixDecoder
from captioners.text import CaptionCodec
from captioners.whole_model import WholeModel, special_tokens


class Git(WholeModel):
    """GitForCausalLM. The positions of a picture see each other; what is projected is the whole grid of every frame.

    Checkpoints of clips have an embedding of their own for the order of frames (`num_image_with_embedding`), which is
    used, and lengthened with zeros for max_frames; to others a temporal embedding of ours is added in the same place.

    prompt: what every caption goes on from; it is fed and not scored, and neither references nor decoded captions
    hold it.
    """

    model_class = GitForCausalLM
    takes_prompt = True

    def __init__(
        self,
        model: GitForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        max_frames: int = 1,
        prompt: str | None = None,
    ):
        prefix = tuple(tokenizer(prompt or "", add_special_tokens=False)["input_ids"])
        special = replace(special_tokens(model.generation_config, tokenizer, start="bos_token_id"), prefix=prefix)
        codec = CaptionCodec(tokenizer, special, PrefixDecoder(model).limit(0) - len(prefix))
        ours = 1 if _has_frames(model) else max_frames
        super().__init__(model, image_processor, codec, model.git.image_encoder.config.hidden_size, ours)
        self.prompt = prompt
        if _has_frames(model) and max_frames > 1:
            _lengthen(model, max_frames)

    @classmethod
    def _assembled(cls, model: GitForCausalLM, directory: Path, max_frames: int, prompt: str | None) -> "Git":
        tokenizer = AutoTokenizer.from_pretrained(directory)
        return cls(model, tokenizer, AutoImageProcessor.from_pretrained(directory), max_frames, prompt)

    def parts(self) -> dict[str, list[nn.Module]]:
        git = self.model.git
        frames = [git.img_temporal_embedding] if _has_frames(self.model) else self._of_clips()
        return {
            "vision": [git.image_encoder],
            "connector": [git.visual_projection, *frames],
            # One list, in which a head tied to the words counts once.
            "decoder": [nn.ModuleList([git.embeddings, git.encoder, self.model.output])],
        }

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        # "0" is the linear layer of the projection, which is a sequence.
        return {"vision": ("q_proj", "v_proj"), "connector": ("0",), "decoder": ("query", "value")}

    def _vision_states(self, pixels: Tensor) -> Tensor:
        return self.model.git.image_encoder(pixel_values=pixels).last_hidden_state

    def _in_order(self, states: Tensor, frame_mask: Tensor | None) -> Tensor:
        if _has_frames(self.model):
            return add_to_frames(torch.cat(list(self.model.git.img_temporal_embedding))[:, 0], states, frame_mask)
        return super()._in_order(states, frame_mask)

    def _read(self, states: Tensor) -> Tensor:
        return self.model.git.visual_projection(states)

    def _text_model(self) -> PreTrainedModel:
        return self.model

    def _decoder(self) -> Decoder:
        return PrefixDecoder(self.model)

    @property
    def _no_split_modules(self) -> list[str]:
        # GIT's own classes name none.
        return ["GitLayer", "GitVisionEncoderLayer"]


def _has_frames(model: GitForCausalLM) -> bool:
    return model.config.num_image_with_embedding is not None


def _lengthen(model: GitForCausalLM, max_frames: int) -> None:
    embeddings = model.git.img_temporal_embedding
    if len(embeddings) > max_frames:
        raise ValueError(f"max_frames is {max_frames}, but the model's own embedding is of {len(embeddings)} frames")
    for _ in range(max_frames - len(embeddings)):
        embeddings.append(nn.Parameter(torch.zeros_like(embeddings[0])))
    model.config.num_image_with_embedding = max_frames
