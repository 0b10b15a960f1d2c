"""The keys of `rlcap reward pac`."""

from dataclasses import dataclass, field

from rlcap.evaluation.retrieval import CUTS
from rlcap.training.arguments import require
from rlcap.training.reward_trainer import RewardArguments

TUNE = ("lora", "projections", "all")
TOWERS = ("both", "vision", "text")
MEASURED = ("r1", "loss", *(f"{way}_r{cut}" for way in ("image_to_text", "text_to_image") for cut in CUTS))
LAMBDA_V, LAMBDA_T = 0.05, 0.1  # of PAC-S and PAC-S++ as remembered: not looked up, the training code is not out


@dataclass
class PacArguments(RewardArguments):
    """The keys of `rlcap reward pac`, beside those of the data."""

    # > Parameters of the dual encoder: one that exists, or a new one of two models
    encoder: str | None = field(
        default=None, metadata={"help": "the dual encoder that trains: what rewards take as `backbone`"}
    )
    checkpoint: str | None = field(
        default=None, metadata={"help": "a file in OpenAI's layout for it, its LoRA folded in"}
    )
    vision: str | None = field(default=None, metadata={"help": "a new dual encoder: directory or id of a vision model"})
    text: str | None = field(default=None, metadata={"help": "a new dual encoder: directory or id of a text encoder"})
    dimensions: int = field(default=512, metadata={"help": "a new dual encoder: dimensions of the common space"})

    # > Parameters that control what trains; new weights and the temperature always do
    tune: str = field(default="lora", metadata={"help": "lora, projections (PAC-S) or all"})
    towers: str = field(
        default="both", metadata={"help": "both, vision or text: the towers that lora or all tune; others stay frozen"}
    )
    lora_rank: int = field(default=4, metadata={"help": "rank of LoRA's matrices"})
    lora_alpha: float = field(default=1.0, metadata={"help": "LoRA is scaled by alpha / rank"})
    lora_dropout: float = field(
        default=0.0, metadata={"help": "dropout before LoRA's matrices; open_clip's attention can have none"}
    )
    lora_targets: list[str] | None = field(
        default=None, metadata={"help": "ends of the names of layers that get LoRA; default: every one that can"}
    )
    dropout_off: bool = field(default=False, metadata={"help": "train without the towers' own dropout"})

    # > Parameters of the loss
    prefix: str = field(default="A photo depicts", metadata={"help": "laid before every caption, as scoring does"})
    generated_captions: str | None = field(
        default=None, metadata={"help": "file of `rlcap positives captions`, one is drawn a picture and step"}
    )
    generated_pictures: str | None = field(default=None, metadata={"help": "folder of `rlcap positives pictures`"})
    lambda_v: float | None = field(
        default=None,
        metadata={"help": f"weight of the generated pictures' loss; default {LAMBDA_V}, 0 where there are none"},
    )
    lambda_t: float | None = field(
        default=None,
        metadata={"help": f"weight of the generated captions' loss; default {LAMBDA_T}, 0 where there are none"},
    )

    # > Parameters of the pictures
    picture_vectors: str | None = field(
        default=None,
        metadata={"help": "folder that keeps the vectors of a frozen vision tower; default: in output_dir"},
    )
    max_bad_images: float = field(
        default=0.01, metadata={"help": "share of pictures that may fail to decode before the run stops"}
    )

    # > Parameters of validation
    test_split: str = field(default="test", metadata={"help": "measured at the end, where the data has it"})
    metric_for_best_model: str | None = field(
        default="r1", metadata={"help": f"validation measure that chooses `final/`: {', '.join(MEASURED)}"}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after so many evaluations in a row without a gain"}
    )

    def __post_init__(self) -> None:
        if self.greater_is_better is None:
            self.greater_is_better = self.metric_for_best_model != "loss"
        super().__post_init__()
        built = self.vision is not None and self.text is not None
        require(
            (self.encoder is not None) != built and (self.vision is None) == (self.text is None),
            "encoder, vision, text",
            (self.encoder, self.vision, self.text),
            "a dual encoder, or a vision model and a text encoder to make a new one of",
        )
        require(
            self.checkpoint is None or self.encoder is not None,
            "checkpoint",
            self.checkpoint,
            "left out without encoder",
        )
        require(self.tune in TUNE, "tune", self.tune, f"one of {', '.join(TUNE)}")
        require(self.towers in TOWERS, "towers", self.towers, f"one of {', '.join(TOWERS)}")
        for key in ("dimensions", "lora_rank", "early_stopping_patience"):
            value = getattr(self, key)
            require(value is None or value > 0, key, value, "1 or more")
        require(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "above 0")
        require(0 <= self.lora_dropout < 1, "lora_dropout", self.lora_dropout, "0 or more and below 1")
        require(0 <= self.max_bad_images <= 1, "max_bad_images", self.max_bad_images, "a share between 0 and 1")
        for key, made in (("lambda_v", "generated_pictures"), ("lambda_t", "generated_captions")):
            weight = getattr(self, key)
            require(weight is None or weight >= 0, key, weight, "0 or more")
            require(
                not weight or getattr(self, made) is not None, key, weight, f"0, or left out, where {made} is not given"
            )
        require(
            self.gradient_accumulation_steps == 1,
            "gradient_accumulation_steps",
            self.gradient_accumulation_steps,
            "1: InfoNCE over parts of a batch is not that over the whole. Raise per_device_train_batch_size, with "
            "activation_checkpointing or more processes",
        )
        require(
            self.eval_strategy == "no" or self.metric_for_best_model in MEASURED,
            "metric_for_best_model",
            self.metric_for_best_model,
            f"one of {', '.join(MEASURED)}",
        )

    def weights(self) -> tuple[float, float]:
        """λ_v and λ_t, 0 where nothing was generated."""
        given = (self.lambda_v, LAMBDA_V, self.generated_pictures), (self.lambda_t, LAMBDA_T, self.generated_captions)
        v, t = (0.0 if made is None else default if own is None else own for own, default, made in given)
        return v, t
