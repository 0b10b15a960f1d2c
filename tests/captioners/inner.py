"""The captioners' inner models driven by transformers' own generate, to compare with."""

from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from captioners import Blip2OPT, Captioner, CaptionTokens, EncoderDecoder, GridTransformer


def inner_generate(captioner: Captioner, visual: dict[str, torch.Tensor], **options: Any) -> Any:
    """`generate` of the model inside on the same pictures; sequences are start token and caption, [rows, 1 + L]."""
    options |= {"return_dict_in_generate": True, "output_scores": True}
    with torch.no_grad():
        if isinstance(captioner, EncoderDecoder):
            # VisionEncoderDecoderModel projects given encoder outputs itself.
            states = BaseModelOutput(last_hidden_state=captioner.features(visual)[:, 0])
            return captioner.model.generate(encoder_outputs=states, **options)
        if isinstance(captioner, GridTransformer):
            states = BaseModelOutput(last_hidden_state=captioner.encode(visual).states)
            return captioner.transformer.generate(encoder_outputs=states, **options)
        output = captioner.model.generate(pixel_values=visual["pixel_values"], **options)
        if isinstance(captioner, Blip2OPT):
            # A placeholder for each query stands before the start token.
            output.sequences = output.sequences[:, captioner.model.config.num_query_tokens :]
        return output


def transition_scores(captioner: Captioner, output: Any) -> torch.Tensor:
    """Log-probabilities [rows, L] that generate reports for the tokens it chose."""
    model = captioner.transformer if isinstance(captioner, GridTransformer) else captioner.model
    return model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)


def as_captions(captioner: Captioner, sequences: torch.Tensor, per_picture: int) -> CaptionTokens:
    """generate's sequences [B·K, 1 + L], start token first, as CaptionTokens [B, K, L]."""
    eos = captioner.codec.special.eos
    ids = sequences[:, 1:].view(-1, per_picture, sequences.shape[1] - 1)
    ends = (ids == eos).cumsum(-1)
    mask = (ends == 0) | ((ends == 1) & (ids == eos))
    finished = (ids == eos).any(-1)
    ids = ids.masked_fill(~mask, captioner.codec.special.pad)
    return CaptionTokens(ids, mask, torch.ones_like(finished), finished)
