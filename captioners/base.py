"""The captioner: one visual input and K captions to per-token scores [B, K, L], whatever the model inside."""

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from captioners import lora
from captioners.beam import beam_search
from captioners.decoders import Decoder, TextDecoder
from captioners.layout import Layout, PackedLayout, RowsLayout, prefixed, scored
from captioners.modes import Modes
from captioners.preprocess import Visual
from captioners.sampling import Choice, generate, most_likely, sampled, with_most_likely
from captioners.scoring import LOGIT_BYTES, reduce_vocabulary
from captioners.static import StaticSampling
from captioners.text import CaptionCodec
from captioners.types import CaptionTokens, GenerationSettings, TokenScores, VisualContext
from captioners.weights import unused, without_progress_bar

PARTS = ("vision", "connector", "decoder")
Preprocess = Callable[[Sequence[Visual]], dict[str, Tensor]]


class Captioner(Modes):
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

    def __init__(self, preprocessor: Preprocess, codec: CaptionCodec):
        super().__init__()
        self.preprocessor = preprocessor
        self.codec = codec
        self.layout: Literal["auto", "packed", "rows"] = "auto"
        self.max_logit_bytes = LOGIT_BYTES
        self.synchronised = False
        self.prompt: str | None = None
        self.lora: lora.LoraSettings | None = None
        self._static: StaticSampling | None = None

    # What an adapter brings

    @abstractmethod
    def _text_model(self) -> PreTrainedModel:
        """The causal language model that reads the picture, in cross-attention or as a prefix."""

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

    @abstractmethod
    def encode(self, visual: dict[str, Tensor]) -> VisualContext:
        """What the decoder attends to, with gradient; from what `preprocess` gives."""

    def seen(self, visual: dict[str, Tensor]) -> dict[str, Tensor]:
        """What stands in for `visual` while the vision tower is frozen: what it saw, or, as here, `visual` itself."""
        return visual

    # Speaking

    @torch.no_grad()
    def sample(
        self,
        context: VisualContext,
        num_samples: int,
        generation: GenerationSettings,
        generator: torch.Generator | None = None,
        *,
        greedy: bool = False,
    ) -> CaptionTokens:
        """num_samples captions of each picture, drawn in eval mode; a function of the generator's state alone.

        greedy: one caption more, the last: the greedy one, which costs less beside the others than by itself.
        """
        shape = (len(context.states), num_samples)
        choose = sampled(shape, generation, generator, self.device)
        if greedy:
            shape, choose = (len(context.states), num_samples + 1), with_most_likely(choose)
        return self._generate(context, shape, generation, choose)

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
        decoder.check_room(context, length)
        with self._evaluating():
            layout = self._layout(decoder, generation.num_beams * length)
            steps = layout.steps(decoder, context, generation.num_beams, length)
            size = len(context.states)
            return beam_search(
                steps, size, self.codec.special, generation, num_return, self._all_done, context.states.device
            )

    def compile_sampling(self, **options: Any) -> None:
        """Samples from now on at fixed shapes, by a compiled step; `options` of `torch.compile` (mode, backend).

        Meant for GPUs, where mode "reduce-overhead" replays CUDA graphs; the same tokens come out, up to the rounding
        of other kernels. The first batch of a shape is slow, and its cache stays in memory. Raises ValueError for
        decoders whose captions cannot share a row, and for those that read the picture as a prefix.
        """
        decoder = self._decoder()
        if not isinstance(decoder, TextDecoder) or not decoder.packed_tokens:
            raise ValueError(
                f"sampling cannot be compiled for {decoder.config.model_type}: that needs a decoder with "
                "cross-attention that takes position ids (GPT-2, BERT, RoBERTa, BLIP)"
            )
        self._static = StaticSampling(options)

    @property
    def samples_compiled(self) -> bool:
        """Whether `compile_sampling` was called."""
        return self._static is not None

    def _generate(
        self, context: VisualContext, shape: tuple[int, int], generation: GenerationSettings, choose: Choice
    ) -> CaptionTokens:
        limit = generation.max_new_tokens
        self._check_length(limit)
        decoder, length = self._decoder(), self._fed(limit)
        decoder.check_room(context, length)
        with self._evaluating():
            fixed = self._static.steps(decoder, context, shape[1], length) if self._static else None
            steps = fixed or self._layout(decoder, shape[1] * length).steps(decoder, context, shape[1], length)
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
        decoder.check_room(context, self._fed(captions.ids.shape[2]))
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
        # What accelerate's FSDP wraps one by one: layers, but for those with weights that others use too.
        named = {name for model in self._inner_models() for name in model._no_split_modules or ()}
        layers = [module for module in self.modules() if type(module).__name__ in named]
        owners = Counter(id(p) for module in self.modules() for p in module.parameters(recurse=False))
        shared = {type(layer).__name__ for layer in layers if any(owners[id(p)] > 1 for p in layer.parameters())}
        return sorted({type(layer).__name__ for layer in layers} - shared)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating-point type."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

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

    def unused_parameters(self) -> set[str]:
        """Names of parameters that no output depends on (poolers, mask tokens): traced with one blank picture."""
        device = self.device
        visual = {name: t.to(device) for name, t in self.preprocess([Image.new("RGB", (64, 64))]).items()}
        ids = torch.full((1, 1, 2), self.codec.special.eos, dtype=torch.long, device=device)
        present = torch.ones((1, 1), dtype=torch.bool, device=device)
        captions = CaptionTokens(ids, torch.ones_like(ids, dtype=torch.bool), present, present)
        with self._evaluating():
            return unused(self, lambda: Captioner.forward(self, visual, captions).log_probs)

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


def _spread(values: Tensor, where: Tensor) -> Tensor:
    return values.new_zeros(where.shape).masked_scatter(where, values)
