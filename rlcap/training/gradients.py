"""Gradients of one mean over all micro-batches and ranks of a step, however many things each of them counted."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rlcap.objectives.reduction import Total


class MeanGradients:
    """Makes gradients of sums into those of a mean, once the step knows what it is a mean over.

    What a step's objective counts (tokens, captions) is known after its last micro-batch. Till then every sum is
    divided by `constant`, which keeps the numbers small; `finish` puts the count in its place.
    """

    def __init__(self, constant: int) -> None:
        self._constant = constant
        self._counted = 0.0
        self._checked = False

    def add(self, result: Total) -> Tensor:
        """The loss of a micro-batch, to be differentiated."""
        self._counted += result.count.item()
        return result.total / self._constant

    def finish(self, model: nn.Module, accelerator: Accelerator) -> bool:
        """Divides the gradients by what was counted over all micro-batches and ranks.

        False, on all ranks, where one of them is NaN or infinite: all are 0 then, and the step moves nothing but what
        the optimizer does by itself (momentum, weight decay).
        Raises ValueError, in the first step, naming parameters that should train and have no gradient.
        """
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        # Under fp16 infinite gradients are usual: the scaler skips these steps, and scales less.
        wrong = accelerator.scaler is None and not _finite(gradients)
        sums = torch.tensor([self._counted, float(wrong)], device=accelerator.device)
        counted, wrong_anywhere = accelerator.reduce(sums, reduction="sum").tolist()
        self._counted = 0.0
        # Ranks have averaged their gradients, each of which was divided by the constant.
        scale = self._constant * accelerator.num_processes / max(counted, 1.0)
        without = []
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
            elif parameter.requires_grad:
                without.append(name)
        if without and not self._checked:
            raise ValueError(
                f"{len(without)} parameters should train and got no gradient: {', '.join(without[:10])}; freeze their "
                "part, or name them in the adapter's unused_parameters. Under gradient checkpointing use_reentrant "
                "must be false"
            )
        self._checked = True
        if wrong_anywhere:
            for gradient in gradients:
                gradient.zero_()
        return not wrong_anywhere


def _finite(gradients: list[Tensor]) -> bool:
    # Of sharded parameters (DTensor) each rank looks at its shard; the ranks' findings are added up.
    local = [gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients]
    return not local or bool(torch.stack(torch._foreach_norm(local)).isfinite().all())
