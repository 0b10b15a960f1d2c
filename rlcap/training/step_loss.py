"""The loss of a step: each of its terms is one mean over all micro-batches and ranks, whatever each of them counts."""

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from rlcap.objectives.reduction import Total


class StepLoss:
    """Brings every term of a step's loss to its mean before anything is differentiated.

    What a term counts (tokens, captions, pictures) is known once captions are sampled and tokenized, and is added up
    then. So gradients need no factor afterwards, which is too late where an engine takes its step inside `backward`
    (DeepSpeed), and terms that count different things need none each. Gradients of micro-batches are added up, and
    averaged over ranks, as DDP, FSDP and DeepSpeed do; `share` undoes that average.

    weights: term -> what its mean is multiplied with; the first one is the objective.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self._counts: dict[str, float] = {}
        self._ranks = 1

    def begin(self, counts: Sequence[Mapping[str, Tensor]], accelerator: Accelerator) -> None:
        """Takes what this rank's micro-batches of the next step count, by term; ranks add up. All ranks call it."""
        own = torch.zeros(len(self.weights), device=accelerator.device)
        for of_batch in counts:
            own += torch.stack([of_batch[name].to(own) for name in self.weights])
        counted = accelerator.reduce(own, reduction="sum").tolist()
        self._counts = dict(zip(self.weights, counted, strict=True))
        self._ranks = accelerator.num_processes

    def share(self, totals: Mapping[str, Total]) -> Tensor:
        """What a micro-batch adds to the loss of the step; shares of all micro-batches and ranks add up to it."""
        if totals.keys() != self.weights.keys():
            raise ValueError(f"the loss has the terms {', '.join(totals)}; announced were {', '.join(self.weights)}")
        shares = [weight * totals[name].total / max(self._counts[name], 1.0) for name, weight in self.weights.items()]
        return torch.stack(shares).sum()

    def for_backward(self, share: Tensor) -> Tensor:
        """A share whose gradient may be averaged over ranks."""
        return share * self._ranks

    @property
    def count(self) -> float:
        """What the objective counts in this step, over all ranks."""
        return self._counts[next(iter(self.weights))]
