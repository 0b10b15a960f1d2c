"""Cross-entropy training: the references of a picture share one encoding of it."""

from dataclasses import dataclass, field

from torch import nn

from rlcap.objectives.cross_entropy import cross_entropy
from rlcap.objectives.reduction import Total
from rlcap.training.arguments import CaptionerTrainingArguments, require
from rlcap.training.captioner_trainer import Batch, CaptionerTrainer


@dataclass
class XEArguments(CaptionerTrainingArguments):
    """The keys of `rlcap xe`."""

    # > Parameters of cross-entropy
    label_smoothing: float = field(
        default=0.0, metadata={"help": "share of probability spread over the vocabulary; 0 before SCST, it slows it"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 or more and below 1")


class XETrainer(CaptionerTrainer):
    """Maximises the likelihood of reference captions."""

    args: XEArguments

    def batch_loss(self, model: nn.Module, batch: Batch) -> Total:
        """Negative log-likelihood of the references, summed, and the number of their tokens (or captions)."""
        captions = self.references_of(batch["rows"])
        scores = model(batch["visual"], captions)
        self.means.add("entropy", scores.entropy.sum().item(), captions.mask.sum().item())
        self.means.add("tokens", captions.mask.sum().item())
        return cross_entropy(
            scores.log_probs,
            captions.mask,
            smoothing=scores.smoothing,
            epsilon=self.args.label_smoothing,
            normalization=self.args.loss_normalization,
        )
