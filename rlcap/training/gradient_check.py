"""Gradients of a step are looked at before they move the weights: parameters without one, and NaN or infinity."""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn


class GradientCheck:
    """Looks at the gradients of each step.

    DeepSpeed takes its step inside `backward` and clears the gradients there. So which parameters get one is noted on
    the way back, and of their values only the norm is there to look at, after the step.
    """

    def __init__(self) -> None:
        self._complete = False
        self._reached: set[str] = set()
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def begin(self, model: nn.Module, accelerator: Accelerator) -> None:
        """Called before the first backward of a step."""
        if self._complete or accelerator.distributed_type != DistributedType.DEEPSPEED:
            return
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self._hooks.append(parameter.register_hook(lambda _, name=name: self._reached.add(name)))

    def finite(self, model: nn.Module, accelerator: Accelerator) -> bool:
        """False, on all ranks, where one of them has a NaN or infinite gradient.

        All gradients are 0 then: the step moves nothing but what the optimizer does by itself (momentum, weight decay).
        Under DeepSpeed they have moved the weights. Under fp16 infinite ones are usual, and always pass: the scaler
        skips these steps, and scales less.
        Raises ValueError, in the first step, naming parameters that should train and have no gradient.
        """
        stepped = accelerator.distributed_type == DistributedType.DEEPSPEED
        if not self._complete:
            self._refuse_unreached(model, stepped)
        if stepped:
            norm = accelerator.deepspeed_engine_wrapped.get_global_grad_norm()
            return accelerator.mixed_precision == "fp16" or norm is None or math.isfinite(norm)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        wrong = accelerator.scaler is None and not _finite(gradients)
        found = torch.tensor(float(wrong), device=accelerator.device)
        wrong_anywhere = bool(accelerator.reduce(found, reduction="sum"))
        if wrong_anywhere:
            for gradient in gradients:
                gradient.zero_()
        return not wrong_anywhere

    def _refuse_unreached(self, model: nn.Module, stepped: bool) -> None:
        if not stepped:
            self._reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        without = [name for name, p in model.named_parameters() if p.requires_grad and name not in self._reached]
        if without:
            raise ValueError(
                f"{len(without)} parameters should train and got no gradient: {', '.join(without[:10])}; freeze their "
                "part, or name them in the adapter's unused_parameters. Under gradient checkpointing use_reentrant "
                "must be false"
            )
        for hook in self._hooks:
            hook.remove()
        self._complete, self._reached, self._hooks = True, set(), []


def _finite(gradients: list[Tensor]) -> bool:
    # Of sharded parameters (DTensor) each rank looks at its shard; the ranks' findings are added up.
    local = [gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients]
    return not local or bool(torch.stack(torch._foreach_norm(local)).isfinite().all())
