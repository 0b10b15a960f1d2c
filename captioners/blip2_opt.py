"""BLIP-2 with OPT as a captioner: OPT reads the Q-Former's queries as a prefix."""

from dataclasses import replace

from transformers import Blip2ForConditionalGeneration, Blip2Processor

from captioners.blip2 import Blip2
from captioners.decoders import Decoder
from captioners.prefix import PrefixDecoder
from captioners.text import CaptionCodec
from captioners.whole_model import special_tokens


class Blip2OPT(Blip2):
    """Blip2ForConditionalGeneration around an OPT. The queries of all frames, in order, are the prefix.

    prompt: what every caption goes on from ("a photo of"), as `generate` takes it; it is fed and not scored, and
    neither references nor decoded captions hold it.
    """

    def __init__(
        self,
        model: Blip2ForConditionalGeneration,
        processor: Blip2Processor,
        max_frames: int = 1,
        prompt: str | None = None,
    ):
        opt, tokenizer = model.language_model, processor.tokenizer
        prefix = tuple(tokenizer(prompt or "", add_special_tokens=False)["input_ids"])
        special = replace(special_tokens(opt.generation_config, tokenizer, start="bos_token_id"), prefix=prefix)
        limit = PrefixDecoder(opt).limit(model.config.num_query_tokens * max_frames + len(prefix))
        # OPT's words begin with the space before them.
        codec = CaptionCodec(tokenizer, special, limit, before=" " if prefix else "")
        super().__init__(model, processor, codec, opt.config.hidden_size, max_frames)
        self.prompt = prompt

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        return {**super().lora_targets(), "decoder": ("q_proj", "v_proj")}

    def _decoder(self) -> Decoder:
        return PrefixDecoder(self.model.language_model)
