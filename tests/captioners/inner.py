"""The captioners' inner models driven by transformers' own generate, to compare with."""

from typing import Any

import torch
from PIL import Image
from transformers.modeling_outputs import BaseModelOutput

from captioners import (
    Blip,
    Blip2OPT,
    Blip2T5,
    Captioner,
    CaptionTokens,
    Chat,
    EncoderDecoder,
    Florence2,
    Git,
    GridTransformer,
)


def inner_generate(captioner: Captioner, visual: dict[str, torch.Tensor], **options: Any) -> Any:
    """`generate` of the model inside on the same pictures, from encoder outputs where it takes them.

    max_new_tokens is that of the captions: what is forced comes on top.
    """
    options["max_new_tokens"] += captioner.codec.special.forced
    options |= {"return_dict_in_generate": True, "output_scores": True}
    with torch.no_grad():
        if isinstance(captioner, EncoderDecoder):
            # VisionEncoderDecoderModel projects given encoder outputs itself.
            encoded = BaseModelOutput(last_hidden_state=captioner.features(visual)[:, 0])
            return captioner.model.generate(encoder_outputs=encoded, **options)
        if isinstance(captioner, GridTransformer):
            encoded = BaseModelOutput(last_hidden_state=captioner.encode(visual).states)
            return captioner.transformer.generate(encoder_outputs=encoded, **options)
        if isinstance(captioner, Git | Blip2OPT):
            return _generated_behind_a_prefix(captioner, visual, options)
        if isinstance(captioner, Chat):
            return _answered(captioner, visual, options)
        assert isinstance(captioner, Blip | Blip2T5 | Florence2)
        return captioner.model.generate(**visual, **prompt_inputs(captioner, len(visual["pixel_values"])), **options)


def _generated_behind_a_prefix(captioner: Git | Blip2OPT, visual: dict[str, torch.Tensor], options: Any) -> Any:
    # A placeholder for each query of BLIP-2 stands before the start token; GIT has none.
    config, special = captioner.model.config, captioner.codec.special
    places = [config.image_token_index] * config.num_query_tokens if isinstance(captioner, Blip2OPT) else []
    ids = torch.tensor([*places, special.start, *special.prefix]).expand(len(visual["pixel_values"]), -1)
    output = captioner.model.generate(**visual, input_ids=ids, **options)
    output.sequences = output.sequences[:, len(places) :]
    return output


def _answered(captioner: Chat, visual: dict[str, torch.Tensor], options: Any) -> Any:
    prompts, seen = visual["prompt_ids"], {n: t for n, t in visual.items() if not n.startswith("prompt")}
    assert visual["prompt_mask"].all(), "generate pads on the left"
    ids = torch.nn.functional.pad(prompts, (0, 1), value=captioner.codec.special.start)
    if "image_grid_thw" in seen:
        seen["mm_token_type_ids"] = (ids == captioner.model.config.image_token_id).int()
    output = captioner.model.generate(**seen, input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    output.sequences = output.sequences[:, prompts.shape[1] :]
    return output


def prompt_inputs(captioner: Blip | Blip2T5 | Florence2, number: int) -> dict[str, torch.Tensor]:
    """What the model's own processor makes of the prompt, beside the pixels of `number` pictures."""
    if captioner.prompt is None:
        return {}
    inputs = captioner.processor(
        images=[Image.new("RGB", (32, 32))] * number, text=[captioner.prompt] * number, return_tensors="pt"
    )
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def transition_scores(captioner: Captioner, output: Any) -> torch.Tensor:
    """Log-probabilities [rows, L] that generate reports for the tokens it chose, those of a prefix left out."""
    if isinstance(captioner, EncoderDecoder | Florence2):
        model = captioner.model
    else:
        model = captioner.transformer if isinstance(captioner, GridTransformer) else captioner._text_model()
    scores = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
    return scores[:, scores.shape[1] + 1 + len(captioner.codec.special.prefix) - output.sequences.shape[1] :]


def as_captions(captioner: Captioner, sequences: torch.Tensor, per_picture: int) -> CaptionTokens:
    """generate's sequences [B·K, start + prefix + L] as CaptionTokens [B, K, L]."""
    eos = captioner.codec.special.eos
    begun = 1 + len(captioner.codec.special.prefix)
    ids = sequences[:, begun:].view(-1, per_picture, sequences.shape[1] - begun)
    ends = (ids == eos).cumsum(-1)
    mask = (ends == 0) | ((ends == 1) & (ids == eos))
    finished = (ids == eos).any(-1)
    ids = ids.masked_fill(~mask, captioner.codec.special.pad)
    return CaptionTokens(ids, mask, torch.ones_like(finished), finished)
