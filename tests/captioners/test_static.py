"""Sampling at fixed shapes gives the tokens of the ordinary steps, from one compilation a shape."""

from typing import Any

import pytest
import torch
from tiny import ALL_CAPTIONERS, favour_end, pictures, tiny_encoder_decoder

from captioners import GenerationSettings
from captioners.decoders import TextDecoder
from captioners.static import MOST_SHAPES

SETTINGS = GenerationSettings(max_new_tokens=8)


@pytest.fixture(autouse=True)
def nothing_compiled_yet() -> None:
    torch._dynamo.reset()


class Counting:
    """A backend of torch.compile that runs what was traced and counts how often something was."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.count += 1
        return graph.forward


def packs(name: str) -> bool:
    decoder = ALL_CAPTIONERS[name]()._decoder()
    return isinstance(decoder, TextDecoder) and decoder.packed_tokens > 0


@pytest.mark.parametrize("name", ALL_CAPTIONERS)
def test_equals_ordinary_steps(name: str) -> None:
    captioner, backend = ALL_CAPTIONERS[name](), Counting()
    if not packs(name):
        with pytest.raises(ValueError, match=r"cannot be compiled for .*position ids"):
            captioner.compile_sampling(backend=backend)
        return
    favour_end(captioner)
    seen = [captioner.encode(captioner.preprocess(own)) for own in (pictures(3), pictures(6)[3:])]
    expected = [_captions(captioner, context) for context in seen]
    captioner.compile_sampling(backend=backend)
    assert [_captions(captioner, context) for context in seen] == expected
    compiled = backend.count
    assert compiled >= 2  # of four samples a picture, and of two
    assert [_captions(captioner, context) for context in seen] == expected
    assert backend.count == compiled


def _captions(captioner: Any, context: Any) -> list[Any]:
    found = [captioner.sample(context, number, SETTINGS, torch.Generator().manual_seed(5)) for number in (4, 2)]
    found.append(captioner.greedy(context, SETTINGS))
    return [[captions.ids.tolist(), captions.finished.tolist()] for captions in found]


def test_what_the_weights_become_is_what_samples() -> None:
    captioner = tiny_encoder_decoder()
    captioner.compile_sampling(backend=Counting())
    context = captioner.encode(captioner.preprocess(pictures(2)))
    before = captioner.greedy(context, SETTINGS)
    favour_end(captioner, 50.0)
    after = captioner.greedy(context, SETTINGS)
    assert not bool(before.finished.all())
    assert bool(after.finished.all())


def test_shapes_beyond_the_most_are_sampled_step_by_step() -> None:
    captioner, backend = tiny_encoder_decoder(), Counting()
    captioner.compile_sampling(backend=backend)
    counts = []
    for number in range(1, MOST_SHAPES + 3):
        context = captioner.encode(captioner.preprocess(pictures(number)))
        assert captioner.greedy(context, SETTINGS).ids.shape[0] == number
        counts.append(backend.count)
    assert counts[MOST_SHAPES - 1] > counts[MOST_SHAPES - 2]
    assert counts[MOST_SHAPES - 1] == counts[-1]
