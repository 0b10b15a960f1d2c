"""Cross-entropy training: the references of a picture share one encoding of it."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from rlcap.objectives.cross_entropy import cross_entropy
from rlcap.objectives.reduction import Total, counted
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

    def prepare(self, batch: Batch, begun: None) -> tuple[Batch, dict[str, Tensor]]:
        """The references, tokenized, and the number of their tokens (or captions)."""
        captions = self.references_of(batch["rows"])
        return {**batch, "captions": captions}, {"loss": counted(captions.mask, self.args.loss_normalization)}

    def batch_loss(self, model: nn.Module, batch: Batch) -> dict[str, Total]:
        """Negative log-likelihood of the references."""
        captions = batch["captions"]
        scores = model(batch["visual"], captions)
        self.means.add("entropy", scores.entropy.sum().item(), captions.mask.sum().item())
        self.means.add("tokens", captions.mask.sum().item())
        loss = cross_entropy(
            scores.log_probs,
            captions.mask,
            smoothing=scores.smoothing,
            epsilon=self.args.label_smoothing,
            normalization=self.args.loss_normalization,
        )
        return {"loss": loss}
