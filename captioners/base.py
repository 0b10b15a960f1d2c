"""The captioner: one visual input and K captions to per-token scores [B, K, L], whatever the model inside."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from captioners import lora
from captioners.beam import beam_search
from captioners.decoders import OWN_DROPOUT, Decoder, TextDecoder
from captioners.frames import frame_features
from captioners.layout import Layout, PackedLayout, RowsLayout, prefixed, scored
from captioners.preprocess import Preprocessor, Visual
from captioners.sampling import Choice, generate, most_likely, sampled
from captioners.scoring import LOGIT_BYTES, reduce_vocabulary
from captioners.text import CaptionCodec
from captioners.types import CaptionTokens, GenerationSettings, TokenScores, VisualContext
from captioners.weights import unused, without_progress_bar

PARTS = ("vision", "connector", "decoder")


class Captioner(nn.Module, ABC):
    """What every adapter shares; an adapter says how its vision tower, connector and decoder are reached.

    preprocessor, codec: picklable, for data workers. layout: "auto", "packed" or "rows" (see captioners.layout).
    max_logit_bytes: fp32 logits beyond this are computed in chunks, again in backward.
    synchronised: every rank steps until all ranks have finished their captions, as FSDP and DeepSpeed ZeRO-3 need.
    takes_prompt, prompt: whether a text can condition every caption, and which does; it is saved and never scored.
    context_parts: the parts that a VisualContext depends on; while one of them trains, a context without gradient
    cannot stand in for a picture.
    """

    context_parts: ClassVar[tuple[str, ...]] = ("vision", "connector")
    takes_prompt: ClassVar[bool] = False

    def __init__(self, preprocessor: Preprocessor, codec: CaptionCodec):
        super().__init__()
        self.preprocessor = preprocessor
        self.codec = codec
        self.layout: Literal["auto", "packed", "rows"] = "auto"
        self.max_logit_bytes = LOGIT_BYTES
        self.synchronised = False
        self.prompt: str | None = None
        self.lora: lora.LoraSettings | None = None
        self._frozen: frozenset[str] = frozenset()
        self._dropout_off = False
        self._dropout_rates: dict[nn.Module, dict[str, float]] = {}

    # What an adapter brings

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Module]]:
        """ "vision", "connector" and "decoder": modules that together hold every parameter exactly once."""

    @abstractmethod
    def _vision_states(self, pixels: Tensor) -> Tensor:
        """Pixels [M, 3, H, W] to the vision tower's grid [M, N, Dv]."""

    @abstractmethod
    def _connect(self, features: Tensor, frame_mask: Tensor | None) -> VisualContext:
        """Features [B, F, N, Dv] and frame_mask [B, F] or None to what the decoder attends to."""

    @abstractmethod
    def _text_model(self) -> PreTrainedModel:
        """The causal language model that reads the picture, in cross-attention or as a prefix."""

    @abstractmethod
    def _inner_models(self) -> list[PreTrainedModel]:
        """The Hugging Face models inside, outermost only."""

    @abstractmethod
    def _write(self, directory: Path) -> None:
        """Writes model, connector and image processor, and removes what an earlier captioner left there of them."""

    def lora_targets(self) -> dict[str, tuple[str, ...]]:
        """The last names of the linear layers that get LoRA, part by part; a part without an entry cannot have it."""
        return {}

    def _decoder(self) -> Decoder:
        return TextDecoder(self._text_model())

    # Text and pictures

    def preprocess(self, visuals: Sequence[Visual]) -> dict[str, Tensor]:
        """B pictures or clips as tensors; see Preprocessor."""
        return self.preprocessor(visuals)

    def tokenize(self, captions: Sequence[Sequence[str]], max_length: int | None = None) -> CaptionTokens:
        """B lists of captions as tokens [B, K, L]; see CaptionCodec.tokenize."""
        return self.codec.tokenize(captions, max_length)

    def decode(self, captions: CaptionTokens) -> list[list[str]]:
        """B lists of captions as text."""
        return self.codec.decode(captions)

    # Seeing

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        """The vision tower alone: [B, F, N, Dv], F = 1 for pictures, zeros where a clip has no frame."""
        return frame_features(self._vision_states, visual, self.dtype)

    def encode(self, visual: dict[str, Tensor]) -> VisualContext:
        """What the decoder attends to, from "pixel_values" or from "features" [B, F, N, Dv], for which no vision runs.

        Raises ValueError where features stand in for a vision tower that is being trained.
        """
        frame_mask = visual.get("frame_mask")
        if "features" in visual:
            if self.training and torch.is_grad_enabled() and "vision" not in self._frozen:
                raise ValueError("stored features cannot train the vision tower: freeze 'vision', or pass pixel_values")
            features = visual["features"].to(self.dtype)
        else:
            features = self.features(visual)
        return self._connect(features, frame_mask)

    # Speaking

    @torch.no_grad()
    def sample(
        self,
        context: VisualContext,
        num_samples: int,
        generation: GenerationSettings,
        generator: torch.Generator | None = None,
    ) -> CaptionTokens:
        """num_samples captions of each picture, drawn in eval mode; a function of the generator's state alone."""
        shape = (len(context.states), num_samples)
        return self._generate(context, shape, generation, sampled(shape, generation, generator, self.device))

    @torch.no_grad()
    def greedy(self, context: VisualContext, generation: GenerationSettings) -> CaptionTokens:
        """The caption of each picture that takes the most likely token at every step; K = 1."""
        return self._generate(context, (len(context.states), 1), generation, most_likely)

    @torch.no_grad()
    def beam_search(self, context: VisualContext, generation: GenerationSettings, num_return: int = 1) -> CaptionTokens:
        """The best num_return of num_beams captions of each picture, best first; K = num_return."""
        if not 1 <= num_return <= generation.num_beams:
            raise ValueError(f"num_return is {num_return}; it must be between 1 and num_beams ({generation.num_beams})")
        self._check_length(generation.max_new_tokens)
        decoder, length = self._decoder(), self._fed(generation.max_new_tokens)
        with self._evaluating():
            layout = self._layout(decoder, generation.num_beams * length)
            steps = layout.steps(decoder, context, generation.num_beams, length)
            size = len(context.states)
            return beam_search(
                steps, size, self.codec.special, generation, num_return, self._all_done, context.states.device
            )

    def _generate(
        self, context: VisualContext, shape: tuple[int, int], generation: GenerationSettings, choose: Choice
    ) -> CaptionTokens:
        limit = generation.max_new_tokens
        self._check_length(limit)
        decoder, length = self._decoder(), self._fed(limit)
        with self._evaluating():
            steps = self._layout(decoder, shape[1] * length).steps(decoder, context, shape[1], length)
            return generate(steps, shape, self.codec.special, limit, choose, self._all_done, context.states.device)

    def _fed(self, tokens: int) -> int:
        return tokens + len(self.codec.special.prefix)

    def _check_length(self, max_new_tokens: int) -> None:
        if max_new_tokens > self.codec.limit:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}, but the decoder has {self.codec.limit} positions for tokens"
            )

    def _all_done(self, done: bool) -> bool:
        if self.synchronised and dist.is_initialized():
            flag = torch.tensor(int(done), device=self.device)
            dist.all_reduce(flag, op=dist.ReduceOp.MIN)
            return bool(flag)
        return done

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = [module for module in self.modules() if module.training]
        nn.Module.train(self, False)
        try:
            yield
        finally:
            for module in training:
                module.training = True

    # Scoring

    def forward(
        self, visual: dict[str, Tensor] | VisualContext, captions: CaptionTokens, temperature: float = 1.0
    ) -> TokenScores:
        """Scores [B, K, L] of captions under softmax(logits / temperature); the only differentiable entry.

        Log-probabilities come from logits, reduced over the vocabulary in fp32. Raises ValueError where a finished
        context without gradient stands in for parts that are being trained.
        """
        if isinstance(visual, VisualContext):
            context = visual
            if self.training and torch.is_grad_enabled() and not context.states.requires_grad:
                trained = [part for part in self.context_parts if part not in self._frozen and self._trains(part)]
                if trained:
                    raise ValueError(
                        f"a context without gradient cannot train {' and '.join(trained)}: pass pixel_values or "
                        "features to forward, or freeze them"
                    )
        else:
            context = self.encode(visual)
        decoder = self._decoder()
        layout = self._layout(decoder, captions.ids.shape[1] * self._fed(captions.ids.shape[2]))
        special = self.codec.special
        hidden = layout.hidden(decoder, context, prefixed(captions, special.prefix), special.start)
        where = scored(captions)
        values = reduce_vocabulary(
            hidden,
            captions.ids[where],
            decoder.head,
            decoder.vocab_size,
            temperature,
            self.max_logit_bytes,
        )
        return TokenScores(*(_spread(value, where) for value in values))

    def _layout(self, decoder: Decoder, tokens_per_picture: int) -> Layout:
        if self.layout == "packed" and not decoder.packed_tokens:
            raise ValueError(
                f"layout 'packed' needs a decoder that takes position ids, unlike {decoder.config.model_type}"
            )
        if self.layout == "auto":
            packed = tokens_per_picture <= decoder.packed_tokens
        else:
            packed = self.layout == "packed"
        return PackedLayout() if packed else RowsLayout()

    # Training

    @property
    def _no_split_modules(self) -> list[str]:
        # What accelerate's FSDP wraps one by one.
        return sorted({name for model in self._inner_models() for name in model._no_split_modules or ()})

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating-point type."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def frozen(self) -> frozenset[str]:
        """The parts that do not train."""
        return self._frozen

    @property
    def dropout_off(self) -> bool:
        """True: all dropout stays off in train mode; set it, as SCST and ranking do, and it holds at once."""
        return self._dropout_off

    @dropout_off.setter
    def dropout_off(self, off: bool) -> None:
        self._dropout_off = off
        self._switch_own_dropout(off)
        self.train(self.training)

    def freeze(self, *parts: str) -> None:
        """Freezes exactly these parts; the others train, or their LoRA, except parameters that the model never uses.

        Raises ValueError on a part that does not exist.
        """
        unknown = sorted(set(parts) - set(PARTS))
        if unknown:
            raise ValueError(f"no part named {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
        unused = self.unused_parameters()
        named = dict(self.named_parameters())
        idle = {id(named[name]) for name in unused} | lora.kept(self)
        self._frozen = frozenset(parts)
        for name, modules in self.parts().items():
            for parameter in _parameters(modules):
                parameter.requires_grad_(name not in self._frozen and id(parameter) not in idle)
        self.train(self.training)

    def add_lora(self, settings: "lora.LoraSettings") -> None:
        """Parts from now on train by LoRA alone, which changes nothing that is said yet; see LoraSettings.

        Raises ValueError where a part has no layers for it, and where there is LoRA already.
        """
        if self.lora is not None:
            raise ValueError(
                "this captioner has LoRA already: begin with an export (best/, final/), where it is merged"
            )
        lora.inject(self, settings)
        self.lora = settings
        self.freeze(*self._frozen)

    def train(self, mode: bool = True) -> "Captioner":
        """Train mode, in which frozen parts and every BatchNorm stay in eval, and everything does with dropout_off."""
        super().train(mode)
        if not mode:
            return self
        for name, modules in self.parts().items():
            if name in self._frozen:
                for module in modules:
                    module.eval()
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        if self._dropout_off:
            self._switch_dropout_off()
        return self

    def _switch_dropout_off(self) -> None:
        for module in self.modules():
            # A layer is computed again in backward only in train mode; its dropout is in its children, in eval mode,
            # or is OWN_DROPOUT, whose rates are zero.
            module.training = module is self or (module.training and _checkpoints(module))

    def _switch_own_dropout(self, off: bool) -> None:
        for module, rates in self._dropout_rates.items():
            vars(module).update(rates)
        self._dropout_rates = {
            module: {name: vars(module)[name] for name in names}
            for module in self.modules()
            for layer, names in OWN_DROPOUT.items()
            if off and isinstance(module, layer)
        }
        for module, rates in self._dropout_rates.items():
            vars(module).update(dict.fromkeys(rates, 0.0))

    def unused_parameters(self) -> set[str]:
        """Names of parameters that no output depends on (poolers, mask tokens): traced with one blank picture."""
        device = self.device
        visual = {name: t.to(device) for name, t in self.preprocess([Image.new("RGB", (64, 64))]).items()}
        ids = torch.full((1, 1, 2), self.codec.special.eos, dtype=torch.long, device=device)
        present = torch.ones((1, 1), dtype=torch.bool, device=device)
        captions = CaptionTokens(ids, torch.ones_like(ids, dtype=torch.bool), present, present)
        with self._evaluating():
            return unused(self, lambda: Captioner.forward(self, visual, captions).log_probs)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Computes the layers' activations again in backward, in train mode, for less memory.

        options: what Trainer hands to transformers' models beside (`every_n_layers` and `offload`, in 5.23).
        """
        for model in self._inner_models():
            if model.supports_gradient_checkpointing:
                model.gradient_checkpointing_enable(
                    gradient_checkpointing_kwargs or {"use_reentrant": False}, **options
                )
        self.train(self.training)

    def gradient_checkpointing_disable(self) -> None:
        """Keeps all activations again."""
        for model in self._inner_models():
            if model.supports_gradient_checkpointing:
                model.gradient_checkpointing_disable()

    def _trains(self, part: str) -> bool:
        return any(parameter.requires_grad for parameter in _parameters(self.parts()[part]))

    # Saving

    def save_pretrained(self, directory: str | os.PathLike, merge_lora: bool = True) -> None:
        """Writes everything that `captioners.load` needs, in the plain Hugging Face layout; other files there stay.

        merge_lora False keeps LoRA in a file of its own, which `captioners.load` reads and transformers does not.
        A kill leaves a folder half written: trainers write beside and rename (rlcap.training.checkpoints).
        """
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        (target / lora.LORA_FILE).unlink(missing_ok=True)
        with without_progress_bar(), lora.plain(self, merge=merge_lora):
            self._write(target)
        if self.lora is not None and not merge_lora:
            lora.write(self, target)
        self.codec.tokenizer.save_pretrained(target)


def _parameters(modules: list[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()


def _checkpoints(module: nn.Module) -> bool:
    return isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing


def _spread(values: Tensor, where: Tensor) -> Tensor:
    return values.new_zeros(where.shape).masked_scatter(where, values)
