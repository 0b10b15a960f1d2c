"""What a recipe can say: data, captioner, and the settings that every trainer shares."""

import importlib.util
import json
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar

from transformers import TrainingArguments

from captioners.base import PARTS
from captioners.grid_transformer import GridTransformerConfig
from captioners.lora import LoraSettings
from rlcap.data import stores
from rlcap.data.columns import Columns
from rlcap.data.video import CHOICES as FRAME_CHOICES
from rlcap.data.video import UNIFORM, FrameChoice
from rlcap.evaluation.grammar import CHECKERS
from rlcap.evaluation.metrics import LOWER_IS_BETTER, METRICS
from rlcap.launching import world
from rlcap.near import did_you_mean
from rlcap.recipes import check_types

# What evaluation during training measures: without Java, and without a second set of captions to compare with.
MEASURED = tuple(
    name for name in METRICS if name not in ("meteor", "spice", "novel_share", "grammar_probability", "captions")
)


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raises ValueError naming the key, its value and what is allowed, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{key} is {value!r}; it must be {allowed}")


def reward_options(key: str, options: dict | str | None, names: list[str]) -> dict[str, Any] | None:
    """What a key says of the options of rewards, name -> options, from a recipe or, as JSON, the command line."""
    if options is None:
        return None
    if isinstance(options, str):
        try:
            options = json.loads(options)
        except json.JSONDecodeError as error:
            raise ValueError(f"{key} is no JSON ({error}): {options!r}") from error
        require(isinstance(options, dict), key, options, 'a JSON object, {"cider-d": {"eos": false}}')
    assert not isinstance(options, str)
    require(
        all(isinstance(value, dict) for value in options.values()),
        key,
        options,
        "the name of a reward, and under it its options",
    )
    unknown = set(options) - set(names)
    require(not unknown, key, sorted(unknown), f"among the rewards {names}")
    return options


def settings_of(arguments: Any) -> dict[str, Any]:
    """The keys of a recipe as they were set, without what transformers derives of them."""
    kept = {}
    for key in fields(arguments):
        value = getattr(arguments, key.name)
        value = value.value if isinstance(value, Enum) else value
        secret = key.name.endswith("_token")
        if key.init and not secret and isinstance(value, str | int | float | bool | list | dict | type(None)):
            kept[key.name] = value
    return kept


def default_settings(arguments_class: type) -> dict[str, Any]:
    """What the keys of a recipe are where nobody sets them."""
    return {
        key.name: key.default if key.default_factory is MISSING else key.default_factory()
        for key in fields(arguments_class)
        if key.init
    }


@dataclass
class DataArguments:
    """Where the captions and the pictures are."""

    data: str = field(
        default="",
        metadata={
            "help": "Karpathy JSON, COCO captions JSON or JSONL; a data set of `datasets` (hub id, saved folder, "
            "parquet files); tar shards (braces, globs, any fsspec address)"
        },
    )
    images: str | None = field(default=None, metadata={"help": "folder of the pictures; default: beside `data`"})
    data_format: str = field(default="auto", metadata={"help": "auto, karpathy, coco, jsonl, datasets or tar"})
    image_column: str | None = field(default=None, metadata={"help": "the column, key or ending that is the picture"})
    frames_column: str | None = field(default=None, metadata={"help": "the column that is a clip's list of frames"})
    video_column: str | None = field(default=None, metadata={"help": "the column, key or ending that is the video"})
    references_column: list[str] | None = field(
        default=None, metadata={"help": "the columns, keys or endings that are captions; json.caption leads into one"}
    )
    id_column: str | None = field(default=None, metadata={"help": "the column or key that is the id"})
    split_column: str | None = field(default=None, metadata={"help": "the column or key that is the split"})
    video_frames: str = field(default=UNIFORM, metadata={"help": f"the frames of a video: {FRAME_CHOICES}"})
    shuffle_buffer: int | None = field(
        default=None,
        metadata={"help": "stream the training rows from tar shards and shuffle so many at a time; needs max_steps"},
    )
    features: str | None = field(
        default=None,
        metadata={"help": "folder written by `rlcap features`: pictures are then opened for rewards that look at them"},
    )
    train_split: str = field(default="train", metadata={"help": "the split to train on"})
    val_split: str = field(default="val", metadata={"help": "the split to evaluate on during training"})
    val_data: str | None = field(
        default=None, metadata={"help": "file of the validation captions where it is another one (COCO)"}
    )
    val_images: str | None = field(default=None, metadata={"help": "folder of the validation pictures"})
    max_train_images: int | None = field(default=None, metadata={"help": "train on the first so many pictures"})
    max_val_images: int | None = field(default=None, metadata={"help": "validate on the first so many pictures"})
    drop_empty_captions: bool = field(
        default=False, metadata={"help": "leave empty captions out; otherwise they stop the run"}
    )

    def __post_init__(self) -> None:
        check_types(self)
        require(bool(self.data), "data", self.data, "the path of a caption file (--data captions.json)")
        for key in ("max_train_images", "max_val_images", "shuffle_buffer"):
            value = getattr(self, key)
            require(value is None or value > 0, key, value, "1 or more")
        FrameChoice.parse(self.video_frames)
        if self.shuffle_buffer is not None:
            for key in ("features", "images", "max_train_images"):
                require(getattr(self, key) is None, key, getattr(self, key), "left out where shuffle_buffer streams")

    @property
    def columns(self) -> Columns:
        """Which columns are what."""
        return Columns.named_by(self)


@dataclass
class CaptionerArguments:
    """Which captioner is trained: one that exists, or a new grid transformer on a vision model."""

    captioner: str | None = field(default=None, metadata={"help": "directory or Hugging Face id of a captioner"})
    prompt: str | None = field(
        default=None,
        metadata={
            "help": "text that conditions every caption (BLIP, BLIP-2, Florence-2); default: the captioner's own"
        },
    )
    vision: str | None = field(
        default=None, metadata={"help": "directory or id of a vision model: a new grid transformer is made on it"}
    )
    d_model: int = field(default=GridTransformerConfig.d_model, metadata={"help": "new grid transformer: width"})
    encoder_layers: int = field(
        default=GridTransformerConfig.encoder_layers, metadata={"help": "new grid transformer: encoder layers"}
    )
    decoder_layers: int = field(
        default=GridTransformerConfig.decoder_layers, metadata={"help": "new grid transformer: decoder layers"}
    )
    heads: int = field(default=GridTransformerConfig.heads, metadata={"help": "new grid transformer: attention heads"})
    ffn: int = field(
        default=GridTransformerConfig.ffn, metadata={"help": "new grid transformer: width of the feed-forward layers"}
    )
    dropout: float = field(default=GridTransformerConfig.dropout, metadata={"help": "new grid transformer: dropout"})
    vocab_size: int = field(
        default=GridTransformerConfig.vocab_size,
        metadata={"help": "new grid transformer: most tokens of its own tokenizer"},
    )
    max_tokens: int = field(
        default=GridTransformerConfig.max_tokens,
        metadata={"help": "new grid transformer: tokens of the longest caption, EOS included"},
    )
    max_frames: int = field(default=1, metadata={"help": "most frames of a clip; 1 for pictures, or as stored"})

    def __post_init__(self) -> None:
        check_types(self)
        require(
            (self.captioner is None) != (self.vision is None),
            "captioner, vision",
            (self.captioner, self.vision),
            "one of the two: a captioner to train on, or a vision model to make a new one for",
        )
        require(
            self.prompt is None or self.captioner is not None,
            "prompt",
            self.prompt,
            "nothing: a new captioner takes none",
        )
        sizes = (
            "d_model",
            "encoder_layers",
            "decoder_layers",
            "heads",
            "ffn",
            "vocab_size",
            "max_tokens",
            "max_frames",
        )
        for key in sizes:
            require(getattr(self, key) > 0, key, getattr(self, key), "1 or more")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "0 or more and below 1")


@dataclass
class CaptionerTrainingArguments(TrainingArguments):
    """transformers.TrainingArguments, and what every trainer of captioners adds. Defaults that differ are set here."""

    measured: ClassVar[tuple[str, ...]] = MEASURED  # what can choose `best/`

    # > Parameters that control which parts of the captioner train
    freeze: list[str] = field(
        default_factory=list, metadata={"help": "parts that stay as they are: vision, connector, decoder"}
    )
    vision_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    connector_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    decoder_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    dropout_off: bool = field(default=False, metadata={"help": "train without dropout"})

    # > Parameters of LoRA, merged in `best/` and `final/`
    lora_parts: list[str] = field(
        default_factory=list, metadata={"help": "parts that train by LoRA alone: vision, connector, decoder"}
    )
    lora_rank: int = field(default=LoraSettings.rank, metadata={"help": "rank of LoRA's matrices"})
    lora_alpha: float = field(default=LoraSettings.alpha, metadata={"help": "LoRA is scaled by alpha / rank"})
    lora_dropout: float = field(default=LoraSettings.dropout, metadata={"help": "dropout before LoRA's matrices"})

    # > Parameters that control the captions
    captions_per_image: int | None = field(
        default=None, metadata={"help": "references drawn a picture and step; default: all of them"}
    )
    max_caption_length: int = field(default=30, metadata={"help": "most tokens of a reference, EOS included"})
    loss_normalization: str = field(default="token", metadata={"help": "token or sequence: what weighs the same"})
    max_not_finite: int = field(
        default=0,
        metadata={
            "help": "micro-batches with a NaN or infinite reward, loss or gradient that a process may skip; the next "
            "one stops the run. Each is written into not_finite/"
        },
    )
    max_bad_images: float = field(
        default=0.01, metadata={"help": "share of pictures that may fail to decode before the run stops"}
    )

    picture_timeout: float = field(
        default=stores.SECONDS,
        metadata={
            "help": "seconds to wait for a folder of pictures, or tar shards, that has disappeared; 0: not at all"
        },
    )

    reward_timeout: float = field(
        default=600.0,
        metadata={"help": "seconds that a reward may take for a batch, in evaluations too; 0 waits for ever"},
    )

    # > Parameters that control evaluation during training
    eval_num_beams: int = field(default=3, metadata={"help": "beams of the captions that are evaluated; 1: greedy"})
    eval_max_new_tokens: int = field(default=20, metadata={"help": "most tokens of the captions that are evaluated"})
    eval_length_penalty: float = field(default=1.0, metadata={"help": "beam search: exponent of the length"})
    eval_rewards: list[str] = field(
        default_factory=list,
        metadata={
            "help": "rewards that measure these captions, as eval/rewards/<name>: pac-s, grammar … (see Rewards)"
        },
    )
    eval_reward_options: dict | str | None = field(
        default=None, metadata={"help": "name -> options of a reward (on the command line: JSON)"}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after so many evaluations in a row without a gain"}
    )
    early_stopping_threshold: float = field(default=0.0, metadata={"help": "what counts as a gain"})
    samples_logged: int = field(default=4, metadata={"help": "pictures whose captions go to the table at every log"})
    sample_checkers: list[str] | None = field(
        default=None,
        metadata={"help": f"grammar checkers of the samples: {', '.join(CHECKERS)}; default: the quick ones there are"},
    )

    # > Defaults of transformers that do not suit captioners
    output_dir: str | None = field(default=None, metadata={"help": "the run's folder: checkpoints, metrics, best"})
    logging_steps: float = field(default=10, metadata={"help": "log every so many steps"})
    metric_for_best_model: str | None = field(
        default="cider", metadata={"help": "validation metric that chooses `best/`: cider, bleu_4, rouge_l …"}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "stays false: rewards read the columns"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "stays false: NaN stops the run"})
    save_total_limit: int | None = field(default=2, metadata={"help": "complete checkpoints to keep"})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "pin batches in memory (GPUs)"})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "stays false: adapters name the parameters their model never uses"}
    )
    ddp_broadcast_buffers: bool | None = field(
        default=False,
        metadata={"help": "stays false: buffers never change, and ranks may differ in how often they run the model"},
    )

    def __post_init__(self) -> None:
        check_types(self)
        require(bool(self.output_dir), "output_dir", self.output_dir, "the run's folder (--output_dir runs/NAME)")
        for part in self.freeze:
            require(part in PARTS, "freeze", part, f"among {', '.join(PARTS)}")
        require(set(self.freeze) != set(PARTS), "freeze", self.freeze, "such that something trains")
        for part in self.lora_parts:
            require(part in PARTS, "lora_parts", part, f"among {', '.join(PARTS)}")
            require(part not in self.freeze, "lora_parts", part, "a part that is not in freeze")
        require(self.lora_rank > 0, "lora_rank", self.lora_rank, "1 or more")
        require(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "above 0")
        require(0 <= self.lora_dropout < 1, "lora_dropout", self.lora_dropout, "0 or more and below 1")
        for name in self.sample_checkers or ():
            require(name in CHECKERS, "sample_checkers", name, f"among {', '.join(CHECKERS)}")
        for key in (
            *("eval_num_beams", "eval_max_new_tokens", "max_caption_length", "save_total_limit"),
            "early_stopping_patience",
        ):
            value = getattr(self, key)
            require(value is None or value > 0, key, value, "1 or more")
        require(self.max_not_finite >= 0, "max_not_finite", self.max_not_finite, "0 or more")
        require(self.picture_timeout >= 0, "picture_timeout", self.picture_timeout, "0 or more seconds")
        require(self.reward_timeout >= 0, "reward_timeout", self.reward_timeout, "0 or more")
        require(0 <= self.max_bad_images <= 1, "max_bad_images", self.max_bad_images, "a share between 0 and 1")
        require(
            self.captions_per_image is None or self.captions_per_image > 0,
            "captions_per_image",
            self.captions_per_image,
            "1 or more, or nothing for all",
        )
        require(
            self.loss_normalization in ("token", "sequence"),
            "loss_normalization",
            self.loss_normalization,
            "token or sequence",
        )
        require(
            self.label_smoothing_factor == 0,
            "label_smoothing_factor",
            self.label_smoothing_factor,
            "0: the key of `rlcap xe` is label_smoothing",
        )
        require(
            self.resume_from_checkpoint is None,
            "resume_from_checkpoint",
            self.resume_from_checkpoint,
            "left out: the same command goes on from the last complete checkpoint in output_dir by itself",
        )
        require(not self.load_best_model_at_end, "load_best_model_at_end", True, "false: the best is kept in `best/`")
        if self.greater_is_better is None:
            self.greater_is_better = self.metric_for_best_model not in LOWER_IS_BETTER
        super().__post_init__()
        if self.eval_strategy == "no":
            self.eval_on_start = False  # a recipe's, where the command line switches evaluation off
        world.settle(self)
        self.eval_reward_options = reward_options("eval_reward_options", self.eval_reward_options, self.eval_rewards)
        measured = (*self.measured, *(f"rewards/{name}" for name in self.eval_rewards))
        require(
            self.eval_strategy == "no" or self.metric_for_best_model in measured,
            "metric_for_best_model",
            self.metric_for_best_model,
            f"one of {', '.join(measured)}{did_you_mean(str(self.metric_for_best_model), measured)}",
        )
        if self.eval_strategy != "no" and importlib.util.find_spec("pycocoevalcap") is None:
            raise ValueError(
                "evaluation during training needs pycocoevalcap: pip install 'rlcap[coco]', or set eval_strategy: no"
            )
        reported = [self.report_to] if isinstance(self.report_to, str) else list(self.report_to or [])
        # Ours log under our names; transformers' own would rename every scalar. The others stay with transformers.
        self.trackers = [name for name in reported if name in ("wandb", "tensorboard")]
        self.report_to = [name for name in reported if name not in self.trackers]
        # Rotation is ours (a checkpoint counts once it is complete), so transformers' own is told to keep all.
        self.checkpoints_kept = self.save_total_limit
        self.save_total_limit = None

    def part_learning_rate(self, part: str) -> float:
        """The peak learning rate of a part of the captioner."""
        own = {
            "vision": self.vision_learning_rate,
            "connector": self.connector_learning_rate,
            "decoder": self.decoder_learning_rate,
        }[part]
        return self.learning_rate if own is None else own
