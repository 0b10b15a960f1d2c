"""GPT-2's activation in one operation: the same function, and nothing else changes."""

import copy

import torch
from tiny import tiny_encoder_decoder
from transformers.activations import NewGELUActivation

from captioners.fused import fuse_activations


def test_gelu_of_gpt2() -> None:
    model = tiny_encoder_decoder().model
    published = copy.deepcopy(model)
    for block in published.decoder.transformer.h:
        block.mlp.act = NewGELUActivation()
    fused = copy.deepcopy(published)
    fuse_activations(fused)
    for name, module in model.named_modules():  # as every captioner has it
        assert not isinstance(module, NewGELUActivation), name
    assert fused.state_dict().keys() == published.state_dict().keys()
    assert fused.config.to_dict() == published.config.to_dict()
    assert fused.config.decoder.activation_function == "gelu_new"
    pixels, ids = torch.randn(2, 3, 16, 16), torch.randint(4, (2, 6))
    said = [one(pixel_values=pixels, decoder_input_ids=ids).logits for one in (published, fused)]
    torch.testing.assert_close(said[1], said[0], atol=1e-5, rtol=1e-5)
    assert not torch.equal(said[1], torch.zeros_like(said[1]))
