"""What tests do inside a captioner's models, whatever their architecture."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from captioners import Captioner
from tiny.material import CAPTIONS, pictures

# Of a language model: the last norm before its head, and a module inside its first layer that runs once with it.
LAST_NORM: dict[str, Callable[[Any], nn.Module]] = {
    "gpt2": lambda model: model.transformer.ln_f,
    "bert": lambda model: model.cls.predictions.transform.LayerNorm,
    "blip_text_model": lambda model: model.cls.predictions.transform.LayerNorm,
    "florence2": lambda model: model.model.language_model.decoder.layers[-1].final_layer_norm,
    "t5": lambda model: model.decoder.final_layer_norm,
    "git": lambda model: model.git.encoder.layer[-1].output.LayerNorm,
    "opt": lambda model: model.model.decoder.final_layer_norm,
    "idefics3": lambda model: model.model.text_model.norm,
    "llava": lambda model: model.model.language_model.norm,
    "qwen2_vl": lambda model: model.model.language_model.norm,
}
IN_FIRST_LAYER: dict[str, Callable[[Any], nn.Module]] = {
    "gpt2": lambda model: model.transformer.h[0].mlp,
    "bert": lambda model: model.bert.encoder.layer[0].intermediate,
    "blip_text_model": lambda model: model.bert.encoder.layer[0].intermediate,
    "florence2": lambda model: model.model.language_model.decoder.layers[0].fc1,
    "t5": lambda model: model.decoder.block[0].layer[-1],
    "git": lambda model: model.git.encoder.layer[0].intermediate,
    "opt": lambda model: model.model.decoder.layers[0].fc1,
    "idefics3": lambda model: model.model.text_model.layers[0].mlp,
    "llava": lambda model: model.model.language_model.layers[0].mlp,
    "qwen2_vl": lambda model: model.model.language_model.layers[0].mlp,
}


def favour_end(captioner: Captioner, amount: float = 4.0) -> None:
    """Flattens the distribution and raises the logit of EOS by about `amount`, so that random captions do end."""
    model = captioner._text_model()
    eos = captioner.codec.special.eos
    weight = model.get_output_embeddings().weight
    last_norm = LAST_NORM[model.config.model_type](model)
    with torch.no_grad():
        last_norm.weight *= 0.4
        if not hasattr(last_norm, "bias"):
            # A norm without bias: the row of EOS turns to what the states have in common instead.
            states = []
            hook = last_norm.register_forward_hook(lambda module, args, output: states.append(output))
            captioner(captioner.preprocess(pictures(4)), captioner.tokenize([CAPTIONS] * 4))
            hook.remove()
            mean = states[-1].flatten(0, -2).mean(0)
            weight[eos] = amount * mean / mean.dot(mean)
        else:
            last_norm.bias += amount * weight[eos] / weight[eos].dot(weight[eos])


def lay_out(captioner: Captioner, layout: str) -> None:
    """Sets the layout; where the decoder takes no position ids, sees "packed" refused and sets "rows"."""
    captioner.layout = layout
    if layout == "packed" and captioner._text_model().config.model_type in ("florence2", "t5"):
        with pytest.raises(ValueError, match="layout 'packed' needs a decoder that takes position ids"):
            captioner(captioner.preprocess(pictures(1)), captioner.tokenize([["a dog"]]))
        captioner.layout = "rows"


def in_first_decoder_layer(captioner: Captioner) -> nn.Module:
    """A module inside the text decoder's first layer, run once whenever the layer is."""
    model = captioner._text_model()
    return IN_FIRST_LAYER[model.config.model_type](model)


def vision_rows(captioner: Captioner) -> list[int]:
    """How many pictures each run of the vision tower sees from now on."""
    rows: list[int] = []
    (tower,) = captioner.parts()["vision"]
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    return rows
