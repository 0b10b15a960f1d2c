"""The keys of `rlcap scst`."""

from dataclasses import dataclass, field

from rlcap.objectives.advantages import BASELINES
from rlcap.training.arguments import CaptionerTrainingArguments, require, reward_options

AGGREGATIONS = ("sum", "group_normalized")
OBJECTIVES = ("policy_gradient", "plackett_luce", "dico")


@dataclass
class SCSTArguments(CaptionerTrainingArguments):
    """The keys of `rlcap scst`."""

    # > Parameters of sampling. What is sampled is what is scored: temperature enters the gradient too.
    num_samples: int = field(default=5, metadata={"help": "captions sampled a picture (beams with beam_mean)"})
    temperature: float = field(default=1.0, metadata={"help": "of sampling, and of the probabilities that are trained"})
    top_k: int = field(default=0, metadata={"help": "sample among the k likeliest tokens; biased; 0: off"})
    top_p: float = field(default=1.0, metadata={"help": "sample among the likeliest tokens of mass p; biased; 1: off"})
    max_new_tokens: int = field(default=20, metadata={"help": "most tokens of a sampled caption, EOS included"})
    compile_sampling: bool = field(
        default=False,
        metadata={"help": "sample at fixed shapes by torch.compile, on a GPU with CUDA graphs: GPT-2, BERT, BLIP"},
    )

    # > Parameters of the rewards
    rewards: list[str] = field(
        default_factory=lambda: ["cider-d"],
        metadata={"help": "built-in names (cider-d, pac-s++, grammar …: see Rewards), or module:function"},
    )
    reward_weights: list[float] | None = field(default=None, metadata={"help": "one a reward; default: 1 each"})
    reward_options: dict | str | None = field(
        default=None, metadata={"help": "name -> options of a reward (on the command line: JSON)"}
    )
    overlap_rewards: bool = field(
        default=True,
        metadata={"help": "score a micro-batch in a thread while the next one is sampled (with gradient accumulation)"},
    )
    reward_aggregation: str = field(
        default="sum", metadata={"help": "sum, or group_normalized: each reward normalised in its group first (GDPO)"}
    )

    # > Parameters of the objective
    objective: str = field(
        default="policy_gradient",
        metadata={"help": "policy_gradient, plackett_luce (the samples in the order of their rewards) or dico"},
    )
    beta: float = field(default=0.1, metadata={"help": "plackett_luce, dico: scale of log policy - log reference"})
    dico_temperature: float = field(
        default=300.0, metadata={"help": "dico: how much the worst losers weigh; 300 suits rewards of PAC-S"}
    )
    baseline: str = field(default="leave_one_out", metadata={"help": "greedy, leave_one_out, group or beam_mean"})
    num_iterations: int = field(
        default=1,
        metadata={"help": "updates (steps) on the same samples; above 1 the policy's ratio is clipped (GRPO)"},
    )
    epsilon: float = field(default=0.2, metadata={"help": "num_iterations above 1: how far a token's ratio may move"})
    epsilon_high: float | None = field(default=None, metadata={"help": "upper bound of the ratio, if another (DAPO)"})
    scale_rewards: bool = field(default=False, metadata={"help": "divide advantages by the group's std (GRPO)"})
    advantage_clip: float | None = field(default=None, metadata={"help": "clip advantages to plus and minus this"})
    kl_beta: float = field(default=0.0, metadata={"help": "weight of the KL to the captioner as it was at the start"})
    xe_weight: float = field(default=0.0, metadata={"help": "weight of cross-entropy on the references"})

    # > Defaults that differ from cross-entropy
    dropout_off: bool = field(default=True, metadata={"help": "what is sampled is what is scored: without dropout"})
    learning_rate: float = field(default=5e-6, metadata={"help": "peak learning rate"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.baseline in BASELINES, "baseline", self.baseline, f"one of {', '.join(BASELINES)}")
        least = 1 if self.baseline == "greedy" else 2
        require(
            self.num_samples >= least, "num_samples", self.num_samples, f"{least} or more with baseline {self.baseline}"
        )
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1 (off)")
        require(
            self.baseline != "beam_mean" or (self.temperature, self.top_k, self.top_p) == (1.0, 0, 1.0),
            "temperature, top_k, top_p",
            (self.temperature, self.top_k, self.top_p),
            "1, 0 and 1 with baseline beam_mean: beams are not drawn",
        )
        require(
            not self.compile_sampling or self.baseline != "beam_mean",
            "compile_sampling",
            self.compile_sampling,
            "false with baseline beam_mean: beams are not compiled",
        )
        require(self.max_new_tokens > 0, "max_new_tokens", self.max_new_tokens, "1 or more")
        require(bool(self.rewards), "rewards", self.rewards, "at least one reward")
        weights = self.reward_weights
        require(
            weights is None or len(weights) == len(self.rewards),
            "reward_weights",
            weights,
            f"one number a reward; there are {len(self.rewards)} rewards",
        )
        self.reward_options = reward_options("reward_options", self.reward_options, self.rewards)
        require(
            self.reward_aggregation in AGGREGATIONS,
            "reward_aggregation",
            self.reward_aggregation,
            " or ".join(AGGREGATIONS),
        )
        require(
            not (self.reward_aggregation == "group_normalized" and self.baseline == "greedy"),
            "baseline",
            self.baseline,
            "leave_one_out, group or beam_mean with reward_aggregation group_normalized",
        )
        require(self.objective in OBJECTIVES, "objective", self.objective, f"one of {', '.join(OBJECTIVES)}")
        require(
            self.objective == "policy_gradient" or self.num_samples >= 2,
            "num_samples",
            self.num_samples,
            f"2 or more with objective {self.objective}",
        )
        self._check_iterations()
        require(self.beta > 0, "beta", self.beta, "above 0")
        require(self.dico_temperature > 0, "dico_temperature", self.dico_temperature, "above 0")
        require(self.kl_beta >= 0, "kl_beta", self.kl_beta, "0 or more")
        require(self.xe_weight >= 0, "xe_weight", self.xe_weight, "0 or more")
        if self.advantage_clip is not None:
            require(self.advantage_clip > 0, "advantage_clip", self.advantage_clip, "above 0")

    def _check_iterations(self) -> None:
        updates = self.num_iterations
        require(updates >= 1, "num_iterations", updates, "1 or more")
        require(0 < self.epsilon < 1, "epsilon", self.epsilon, "between 0 and 1")
        high = self.epsilon_high
        require(high is None or high > 0, "epsilon_high", high, "above 0")
        # Samples are not kept in a checkpoint: it is written when all updates on them are done.
        saved = {"save_steps": self.save_steps, "max_steps": self.max_steps} if self.save_strategy == "steps" else {}
        for key, value in saved.items():
            require(value <= 0 or value % updates == 0, key, value, f"a multiple of num_iterations ({updates})")
