"""The captioners' inner models driven by transformers' own generate, to compare with."""

from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from captioners import CaptionTokens, EncoderDecoder, GridTransformer


def inner_generate(captioner: EncoderDecoder | GridTransformer, visual: dict[str, torch.Tensor], **options: Any) -> Any:
    """`generate` of the model inside on the same pictures, from encoder outputs."""
    with torch.no_grad():
        if isinstance(captioner, EncoderDecoder):
            # VisionEncoderDecoderModel projects given encoder outputs itself.
            model, states = captioner.model, captioner.features(visual)[:, 0]
        else:
            model, states = captioner.transformer, captioner.encode(visual).states
        return model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )


def transition_scores(captioner: EncoderDecoder | GridTransformer, output: Any) -> torch.Tensor:
    """Log-probabilities [rows, L] that generate reports for the tokens it chose."""
    model = captioner.model if isinstance(captioner, EncoderDecoder) else captioner.transformer
    return model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)


def as_captions(
    captioner: EncoderDecoder | GridTransformer, sequences: torch.Tensor, per_picture: int
) -> CaptionTokens:
    """generate's sequences [B·K, 1 + L], start token first, as CaptionTokens [B, K, L]."""
    eos = captioner.codec.special.eos
    ids = sequences[:, 1:].view(-1, per_picture, sequences.shape[1] - 1)
    ends = (ids == eos).cumsum(-1)
    mask = (ends == 0) | ((ends == 1) & (ids == eos))
    finished = (ids == eos).any(-1)
    ids = ids.masked_fill(~mask, captioner.codec.special.pad)
    return CaptionTokens(ids, mask, torch.ones_like(finished), finished)
