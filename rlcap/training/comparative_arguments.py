"""The keys of `rlcap reward comparative`."""

from dataclasses import dataclass, field

import torch

from rewards.comparative.encoders import POOLINGS
from rlcap.data.pairs import KINDS
from rlcap.recipes import check_types
from rlcap.training.arguments import require
from rlcap.training.judgment_arguments import JudgmentArguments

PAIR_LOSSES = ("hinge", "bradley_terry")
RATING_LOSSES = ("mae_sign", "mae_tanh", "mae", "mse")
BEST_METRICS = ("spearman", "pair_accuracy", "loss")


@dataclass
class ComparativeArguments(JudgmentArguments):
    """The keys of `rlcap reward comparative`. Defaults follow the published pairwise model (`pairwise_model.py`)."""

    # > Parameters of the frozen encoders
    picture_encoder: str = field(default="microsoft/resnet-50", metadata={"help": "directory or Hub id"})
    sentence_encoder: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "directory or Hub id"}
    )
    picture_pooling: str = field(default="mean", metadata={"help": ", ".join(POOLINGS)})
    sentence_pooling: str = field(default="mean", metadata={"help": ", ".join(POOLINGS)})
    lowercase: bool = field(default=True, metadata={"help": "lower-case captions"})
    features: str | None = field(
        default=None, metadata={"help": "folder where the vectors are kept; default: `features` in output_dir"}
    )
    picture_features: str | None = field(
        default=None, metadata={"help": "folder of `rlcap features` of the picture encoder: no picture is opened"}
    )
    encoding_batch_size: int = field(default=32, metadata={"help": "pictures or captions encoded at a time"})

    # > Parameters of the head
    hidden: list[int] = field(default_factory=lambda: [512, 256, 128], metadata={"help": "widths of its layers"})
    dropout: list[float] = field(default_factory=lambda: [0.3, 0.2, 0.0], metadata={"help": "one rate a layer"})
    batch_norm: bool = field(default=True, metadata={"help": "batch normalisation behind each layer"})

    # > Parameters of the objective
    loss: str = field(
        default="hinge", metadata={"help": f"on pairs {', '.join(PAIR_LOSSES)}; on ratings {', '.join(RATING_LOSSES)}"}
    )
    margin: float = field(default=1.0, metadata={"help": "of the hinge"})
    penalty_weight: float = field(default=0.3, metadata={"help": "of the ranking penalty of mae_sign and mae_tanh"})
    pairs: str = field(default="random", metadata={"help": ", ".join(KINDS)})
    pairs_per_caption: int = field(default=5, metadata={"help": "N: pairs a training caption"})
    round_ratings: bool = field(default=True, metadata={"help": "a tie is an equal rounded mean, not an equal mean"})
    rounds: int = field(default=5, metadata={"help": "hard, active: times that pairs are added; the first is random"})
    pool_factor: int = field(default=10, metadata={"help": "hard, active: candidates for each pair that is chosen"})

    # > Parameters of training
    batch_size: int = field(default=32, metadata={"help": "pairs or captions a step"})
    learning_rate: float = field(default=1e-3, metadata={"help": "of Adam, falling by a cosine"})
    decay_steps: int | None = field(default=5000, metadata={"help": "steps that it falls for; nothing: all of them"})
    l2: float = field(default=1e-5, metadata={"help": "times the squares of the hidden layers' matrices, in the loss"})
    epochs: int = field(default=30, metadata={"help": "passes over the pairs or captions"})
    steps_per_epoch: int | None = field(
        default=None, metadata={"help": "steps of an epoch, of pairs or captions drawn anew; default: a whole pass"}
    )
    patience: int = field(default=5, metadata={"help": "stop after so many epochs without a better validation score"})
    best_metric: str | None = field(
        default=None,
        metadata={"help": f"{', '.join(BEST_METRICS)}, on validation; default: spearman, or pair_accuracy for `given`"},
    )
    seed: int = field(default=0, metadata={"help": "of weights, pairs, batches and dropout"})
    use_cpu: bool = field(default=False, metadata={"help": "compute on the CPU even where there is a GPU"})

    # > Parameters of what is left behind
    output_dir: str = field(default="", metadata={"help": "the run's folder: checkpoints, metrics, report, final"})
    save_epochs: int = field(default=5, metadata={"help": "epochs between checkpoints"})
    curve: list[int] = field(
        default_factory=list, metadata={"help": "numbers N of pairs a caption to draw the agreement against"}
    )
    curve_seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "seeds of each point"})

    def __post_init__(self) -> None:
        check_types(self)
        self.check_judgments()
        require(bool(self.output_dir), "output_dir", self.output_dir, "the run's folder (--output_dir runs/NAME)")
        for key, allowed in (
            ("picture_pooling", POOLINGS),
            ("sentence_pooling", POOLINGS),
            ("loss", (*PAIR_LOSSES, *RATING_LOSSES)),
            ("pairs", KINDS),
            ("best_metric", (None, *BEST_METRICS)),
        ):
            value = getattr(self, key)
            require(value in allowed, key, value, f"one of {', '.join(map(str, allowed))}")
        for key in ("encoding_batch_size", "pairs_per_caption", "rounds", "pool_factor", "epochs"):
            require(getattr(self, key) > 0, key, getattr(self, key), "1 or more")
        for key in ("patience", "save_epochs"):
            require(getattr(self, key) > 0, key, getattr(self, key), "1 or more")
        require(self.batch_size > 1, "batch_size", self.batch_size, "2 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        steps = self.steps_per_epoch
        require(steps is None or steps > 0, "steps_per_epoch", steps, "1 or more")
        require(self.decay_steps is None or self.decay_steps > 0, "decay_steps", self.decay_steps, "1 or more")
        for key in ("margin", "penalty_weight", "l2"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        require(bool(self.hidden) and min(self.hidden) > 0, "hidden", self.hidden, "widths of 1 or more")
        require(
            len(self.dropout) == len(self.hidden) and all(0 <= rate < 1 for rate in self.dropout),
            "dropout",
            self.dropout,
            f"one rate below 1 for each of the {len(self.hidden)} hidden layers",
        )
        require(all(n > 0 for n in self.curve), "curve", self.curve, "numbers of 1 or more")
        require(not self.curve or bool(self.curve_seeds), "curve_seeds", self.curve_seeds, "at least one seed")
        require(
            self.picture_features is None or self.picture_pooling != "pooler",
            "picture_pooling",
            self.picture_pooling,
            "mean or first with picture_features, which are grids",
        )
        if self.curve or self.pairs == "given":
            require(
                self.on_pairs, "loss", self.loss, f"one on pairs ({', '.join(PAIR_LOSSES)}) for curve or given pairs"
            )
        require(not self.curve or self.pairs != "given", "curve", self.curve, "left out: given pairs have no N")
        require(self.rounds <= self.epochs, "rounds", self.rounds, f"at most the {self.epochs} epochs")

    @property
    def device(self) -> torch.device:
        """Where encoders and head compute."""
        return torch.device("cuda" if torch.cuda.is_available() and not self.use_cpu else "cpu")

    @property
    def on_pairs(self) -> bool:
        """Whether the loss compares captions, and does not read their ratings."""
        return self.loss in PAIR_LOSSES
