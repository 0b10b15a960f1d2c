"""What a chat template makes of pictures and an instruction: the prompt before a caption, and how a caption goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.processing_utils import ProcessorMixin

from captioners.preprocess import Visual, as_frames
from captioners.text import SpecialTokens

PROMPT_IDS, PROMPT_MASK = "prompt_ids", "prompt_mask"
ANSWER = "a dog"
"""Stands for a caption where it is asked what a template puts around one."""


def render(processor: ProcessorMixin, instruction: str, pictures: int, answer: str | None = None) -> str:
    """One user message, the pictures before the instruction, and what the assistant answers, or is to answer."""
    content: list[dict[str, str]] = [{"type": "image"}] * pictures
    if instruction:
        content = [*content, {"type": "text", "text": instruction}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if answer is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return processor.apply_chat_template(messages, add_generation_prompt=answer is None, tokenize=False)


@dataclass
class ChatPreprocessor:
    """Pictures and an instruction through a model's own processor and chat template; picklable, for data workers.

    max_frames: the most pictures of a clip; None where only the decoder's room is a limit.
    """

    processor: Any
    instruction: str
    max_frames: int | None = None

    def __call__(self, visuals: Sequence[Visual]) -> dict[str, Tensor]:
        """B pictures or clips, as what the vision tower takes and the prompt as tokens.

        "prompt_ids" int64 and "prompt_mask" bool [B, N], padded right: all of the prompt but its last token, which is
        what captions begin with. The others are the processor's own. A clip is several pictures, in order. Raises
        ValueError as `as_frames` does, and on a clip of more than max_frames.
        """
        clips = as_frames(visuals)
        for b, clip in enumerate(clips):
            if self.max_frames is not None and len(clip) > self.max_frames:
                raise ValueError(
                    f"clip {b} has {len(clip)} frames; this captioner was made for at most {self.max_frames}"
                )
        texts = [render(self.processor, self.instruction, len(clip)) for clip in clips]
        bos = self.processor.tokenizer.bos_token
        inputs = self.processor(
            text=texts,
            images=clips,
            padding=True,
            # Some templates write it themselves.
            add_special_tokens=bos is None or not texts[0].startswith(bos),
            return_tensors="pt",
        )
        present = inputs.pop("attention_mask").bool()
        rows = [ids[kept][:-1] for ids, kept in zip(inputs.pop("input_ids"), present, strict=True)]
        prompt = pad_sequence(rows, batch_first=True)
        mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True)
        kinds = ("mm_token_type_ids", "token_type_ids")
        others = {name: tensor for name, tensor in inputs.items() if name not in kinds}
        return {PROMPT_IDS: prompt, PROMPT_MASK: mask, **others}


def answer_format(processor: Any, instruction: str, generation: GenerationConfig) -> tuple[SpecialTokens, str]:
    """How captions begin and end: the last token of the prompt, EOS and pad; and the text between prompt and caption.

    EOS is the special token that the template ends an answer with, or else the model's own. Raises ValueError where
    there is no template, or no EOS.
    """
    if not processor.chat_template:
        raise ValueError("the processor has no chat template (chat_template.jinja), so pictures cannot be asked about")
    tokenizer = processor.tokenizer
    ids = partial(tokenizer, add_special_tokens=False)
    prompt = render(processor, instruction, 1)
    whole = render(processor, instruction, 1, ANSWER)
    lead, _, ending = whole.removeprefix(prompt).rpartition(ANSWER)
    ends = ids(ending.strip())["input_ids"][:1]
    own = generation.eos_token_id if generation.eos_token_id is not None else tokenizer.eos_token_id
    eos = ends[0] if ends and ends[0] in tokenizer.all_special_ids else own[0] if isinstance(own, list) else own
    if eos is None:
        raise ValueError("neither the chat template nor generation_config.json says what ends an answer (eos_token_id)")
    start = ids(prompt)["input_ids"][-1]
    before = _before(ids, prompt, lead if whole.startswith(prompt) else "")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
    return SpecialTokens(start, eos, pad), before


def _before(ids: Any, prompt: str, lead: str) -> str:
    # Some tokenizers put a space before a text by themselves.
    wanted = ids(prompt + lead + ANSWER)["input_ids"]
    begun = ids(prompt)["input_ids"]
    return next((text for text in (lead, "") if begun + ids(text + ANSWER)["input_ids"] == wanted), lead)
