"""What a vision-language model reads when it rates a caption: pictures, a request, and the caption as the answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoProcessor

PROMPT = "Describe this image."


class RatingPrompt:
    """Pictures and captions as the model's inputs.

    One prompt serves training and scoring: by the processor's chat template the user's turn is the pictures and the
    request, the assistant's the caption. (The published code trains with the picture in the assistant's turn, and
    scores with another prompt than it trained on.) Without a template it is image tokens, request and caption.

    context: most tokens of a text with its picture, None where the model sets no limit. Nothing is cut off.
    """

    def __init__(self, processor: Any, prompt: str = PROMPT, context: int | None = None) -> None:
        self.processor = processor
        self.prompt = prompt
        self.context = context

    @classmethod
    def from_pretrained(cls, path: str | Path, prompt: str = PROMPT, context: int | None = None) -> "RatingPrompt":
        """The prompt of a model's directory or Hub id; ValueError where it has no processor."""
        try:
            processor = AutoProcessor.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} has no processor of pictures and text: {error}") from error
        if "tokenizer" not in processor.get_attributes():
            raise ValueError(f"{path} has a {type(processor).__name__}, which reads no text with its pictures")
        return cls(processor, prompt, context)

    def text(self, caption: str, pictures: int = 1) -> str:
        """The text that the model reads for one caption of so many pictures (more than one: the frames of a clip)."""
        if self.processor.chat_template is None:
            return self._image_tokens(pictures) + f"{self.prompt} {caption}"
        asked = [{"type": "image"} for _ in range(pictures)] + [{"type": "text", "text": self.prompt}]
        answered = [{"type": "text", "text": caption}]
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return self.processor.apply_chat_template(turns, tokenize=False)

    def request(self, pictures: int = 1) -> str:
        """The same without the caption: where the model would begin to generate one."""
        if self.processor.chat_template is None:
            return self._image_tokens(pictures) + self.prompt
        asked = [{"type": "image"} for _ in range(pictures)] + [{"type": "text", "text": self.prompt}]
        turns = [{"role": "user", "content": asked}]
        return self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def __call__(
        self, pictures: Sequence[Sequence[Image.Image]], captions: Sequence[str], padding_side: str = "right"
    ) -> dict[str, Tensor]:
        """The inputs of B captions, each with its pictures.

        Padded on the right, so that positions count from the first real token also in models with absolute positions.
        Raises ValueError naming the caption that does not fit into the model's context.
        """
        texts = [self.text(caption, len(own)) for caption, own in zip(captions, pictures, strict=True)]
        return self.encode(texts, pictures, padding_side, captions)

    def encode(
        self,
        texts: Sequence[str],
        pictures: Sequence[Sequence[Image.Image]],
        padding_side: str = "right",
        captions: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """The inputs of texts in which the places of the pictures are marked already."""
        bos = self.processor.tokenizer.bos_token
        inputs = self.processor(
            text=list(texts),
            images=[list(own) for own in pictures],
            padding=True,
            padding_side=padding_side,
            # Some templates write the first token themselves; captioners/chat_template.py reads prompts alike.
            add_special_tokens=bos is None or not texts[0].startswith(bos),
            return_tensors="pt",
        )
        lengths = inputs["attention_mask"].sum(1).tolist()
        for text, length in zip(captions or texts, lengths, strict=True):
            if self.context is not None and length > self.context:
                raise ValueError(
                    f"multi-tap: with its picture the caption {text[:60]!r}… has {length} tokens, and the model reads "
                    f"at most {self.context}; shorten it, or take a model with a longer context"
                )
        return dict(inputs)

    def _image_tokens(self, pictures: int) -> str:
        # Processors without such a token (BLIP-2) put the picture's place in by themselves.
        return getattr(self.processor, "image_token", "") * pictures
