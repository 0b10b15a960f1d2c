"""The keys of `rlcap rank-dpo`."""

from dataclasses import dataclass, field
from typing import ClassVar

from rlcap.evaluation.ranking import RANKED
from rlcap.objectives.ranking import PAIRS
from rlcap.training.arguments import CaptionerTrainingArguments, DataArguments, require

OBJECTIVES = ("plackett_luce", "bradley_terry", "lambda")
REFERENCES = ("frozen_copy", "adapters_off", "stored")


@dataclass
class ChainDataArguments(DataArguments):
    """The keys of all data; `data` is a file or data set of chains, or of preferences in TRL's columns."""

    pictures: str | None = field(
        default=None,
        metadata={
            "help": "captions with the pictures that the chains name by their image_id, in any format of `data`; their "
            "references are what generated captions are measured against. Default: the chains name their files"
        },
    )
    val_pictures: str | None = field(
        default=None, metadata={"help": "the same for val_data, where they are in another file (COCO)"}
    )
    ignore_prompts: bool = field(
        default=False,
        metadata={
            "help": "true: chains with a prompt (TRL's) are scored under the captioner's own; else both must be one"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.shuffle_buffer is None, "shuffle_buffer", self.shuffle_buffer, "left out: chains are not streamed")
        require(
            self.references_column is None or self.pictures is not None,
            "references_column",
            self.references_column,
            "left out: it names the references of pictures, and there are none",
        )


@dataclass
class RankingArguments(CaptionerTrainingArguments):
    """The keys of `rlcap rank-dpo`."""

    measured: ClassVar[tuple[str, ...]] = (*CaptionerTrainingArguments.measured, *RANKED)

    # > Parameters of the objective
    objective: str = field(
        default="plackett_luce",
        metadata={"help": "plackett_luce (the order as a whole), bradley_terry (pairs) or lambda (LiPO)"},
    )
    pairs: str = field(
        default="all", metadata={"help": "bradley_terry: all pairs of a chain, adjacent ones, or best_worst alone"}
    )
    beta: float = field(default=0.1, metadata={"help": "scale of log policy - log reference"})
    label_smoothing: float = field(
        default=0.0, metadata={"help": "probability that an order, or a pair, is the other way round"}
    )
    xe_weight: float = field(
        default=0.0, metadata={"help": "weight of cross-entropy on the best caption, a mean over its tokens"}
    )
    loss_normalization: str = field(
        default="token",
        metadata={"help": "log-probabilities of a caption are summed (token, as in DPO) or averaged (sequence)"},
    )

    # > Parameters of the reference
    reference: str = field(
        default="frozen_copy",
        metadata={
            "help": "frozen_copy (of what trains), adapters_off (the captioner without its LoRA, where nothing else "
            "trains) or stored (computed once to the disk; no second model)"
        },
    )
    reference_dir: str | None = field(
        default=None, metadata={"help": "stored: the folder, which runs can share; default: reference/ in output_dir"}
    )

    # > Defaults that differ from cross-entropy
    dropout_off: bool = field(
        default=True, metadata={"help": "the policy is compared with a reference without dropout"}
    )
    learning_rate: float = field(default=1e-6, metadata={"help": "peak learning rate"})
    # None gives way to a number once the captioner and the chains are known.
    max_caption_length: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "most tokens of a caption, EOS included; longer ones are cut; default: what the captioner takes"
        },
    )
    eval_max_new_tokens: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "most tokens of the captions that are evaluated; default: those of the longest best caption among "
            "the chains that are held out"
        },
    )
    metric_for_best_model: str | None = field(
        default="ranking/pair_accuracy",
        metadata={"help": "validation metric that chooses `best/`: of the order of chains, or of generated captions"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.objective in OBJECTIVES, "objective", self.objective, f"one of {', '.join(OBJECTIVES)}")
        require(self.pairs in PAIRS, "pairs", self.pairs, f"one of {', '.join(PAIRS)}")
        require(
            self.pairs == "all" or self.objective == "bradley_terry",
            "pairs",
            self.pairs,
            f"left out with objective {self.objective}: only bradley_terry chooses pairs",
        )
        require(self.beta > 0, "beta", self.beta, "above 0")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 or more and below 0.5")
        require(self.xe_weight >= 0, "xe_weight", self.xe_weight, "0 or more")
        require(self.reference in REFERENCES, "reference", self.reference, f"one of {', '.join(REFERENCES)}")
        require(
            self.reference_dir is None or self.reference == "stored",
            "reference_dir",
            self.reference_dir,
            "left out unless reference is stored",
        )
        require(
            self.captions_per_image is None,
            "captions_per_image",
            self.captions_per_image,
            "left out: a chain is ranked with all its captions",
        )
