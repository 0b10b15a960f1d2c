"""Train and eval mode: frozen parts and BatchNorm stay in eval, dropout can be off, layers are computed again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from captioners.decoders import OWN_DROPOUT


class Modes(nn.Module, ABC):
    """A module of parts, of which some are frozen, whose `train()` puts into train mode what should be in it."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen: frozenset[str] = frozenset()
        self._dropout_off = False
        self._dropout_rates: dict[nn.Module, dict[str, float]] = {}

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Module]]:
        """ "vision", "connector" and "decoder": modules that together hold every parameter exactly once."""

    @abstractmethod
    def _inner_models(self) -> list[PreTrainedModel]:
        """The Hugging Face models inside, outermost only."""

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

    def train(self, mode: bool = True) -> Self:
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

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = [module for module in self.modules() if module.training]
        nn.Module.train(self, False)
        try:
            yield
        finally:
            for module in training:
                module.training = True

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


def recomputes(model: nn.Module) -> bool:
    """Whether layers of `model` will be computed again in backward, as they are now: they then take no cache."""
    return any(_checkpoints(module) and module.training for module in model.modules())


def _checkpoints(module: nn.Module) -> bool:
    return isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
