"""Self-critical sequence training: sample captions, reward them, make the better ones more likely.

A step encodes each picture, samples K captions from that encoding, scores them with the rewards, compares with a
baseline, and takes one differentiable pass over all K captions; with `num_iterations` the next steps take theirs over
the same captions. One encoding serves both in a single process without dropout and accumulation; otherwise the
differentiable pass encodes again what trains: a frozen vision model does not run twice.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings, VisualContext
from rewards import Reward
from rewards.reward import opens_lazily
from rlcap.captioning import evaluating
from rlcap.data.stream import CaptionStream
from rlcap.objectives.advantages import advantages
from rlcap.objectives.cross_entropy import cross_entropy
from rlcap.objectives.dico import dico
from rlcap.objectives.policy_gradient import clipped_policy_gradient, clipped_share, kl_penalty, policy_gradient
from rlcap.objectives.ranking import best_first, implicit_rewards, plackett_luce
from rlcap.objectives.reduction import Total, counted
from rlcap.training.arguments import require
from rlcap.training.beside import Beside
from rlcap.training.captioner_trainer import Batch, CaptionerTrainer
from rlcap.training.reference import frozen_copy
from rlcap.training.repeated_chunks import RepeatedChunks
from rlcap.training.rewarding import Rewarded, Rewarder, note_rewards, sample_records
from rlcap.training.scst_arguments import SCSTArguments


class Rollout(NamedTuple):
    """Captions that were sampled, what the rewards said of them, and what updates on them go on from.

    visual: a context where all that made it is frozen, else the pictures (or features); for the reference captioner,
    and for updates after the first. log_probs: `[B, K, L]` under the policy that sampled, from the first update on.
    """

    samples: CaptionTokens
    visual: dict[str, Tensor] | VisualContext
    rewarded: Rewarded
    advantage: Tensor
    records: list[dict[str, Any]]
    log_probs: Tensor | None = None


class Sampled(NamedTuple):
    """Captions whose rewards are being found.

    visual: what the differentiable pass goes on from. kept: what later passes go on from. texts: of the samples, and
    behind them of a greedy baseline. shown: greedy captions for the table.
    """

    visual: dict[str, Tensor] | VisualContext
    kept: dict[str, Tensor] | VisualContext
    samples: CaptionTokens
    texts: list[list[str]]
    shown: list[str]
    rewards: Callable[[], tuple[Rewarded, list[tuple[str, float]]]]


class SCSTTrainer(CaptionerTrainer):
    """Policy gradient on sampled captions.

    reward_functions: callables of the contract in `rewards`, one a name of `args.rewards`, weighted by
    `args.reward_weights`. They see B·K completions in flat lists and the columns of the dataset.
    """

    args: SCSTArguments
    memory_keys = ("per_device_train_batch_size", "num_samples", "max_new_tokens")

    def __init__(
        self,
        captioner: Captioner,
        args: SCSTArguments,
        train_dataset: datasets.Dataset | CaptionStream,
        eval_dataset: datasets.Dataset | None = None,
        *,
        reward_functions: list[Reward],
        **options: Any,
    ) -> None:
        streamed = isinstance(train_dataset, CaptionStream)
        require(
            args.num_iterations == 1 or not streamed, "num_iterations", args.num_iterations, "1 for a stream of shards"
        )
        looking = [reward for reward in reward_functions if "images" in reward.needs]
        # Beside stored features, rewards that remember what they saw open pictures themselves: nothing is seen twice.
        lazy = options.get("features") is not None and all(map(opens_lazily, looking))
        keep_images = bool(looking) and not lazy
        super().__init__(captioner, args, train_dataset, eval_dataset, keep_images=keep_images, **options)
        weights = args.reward_weights or [1.0] * len(reward_functions)
        self.rewarder = Rewarder(reward_functions, weights, args.reward_aggregation, args.reward_timeout)
        self.generation = GenerationSettings(
            max_new_tokens=args.max_new_tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            num_beams=args.num_samples,
        )
        if args.compile_sampling:
            # CUDA graphs need a GPU; elsewhere kernels are made alone.
            captioner.compile_sampling(mode="reduce-overhead" if self.accelerator.device.type == "cuda" else "default")
        compared = args.kl_beta or args.objective != "policy_gradient"
        self.reference_captioner = frozen_copy(captioner, self.accelerator) if compared else None
        self._beside = Beside(self.accelerator.device)
        self._rollouts: dict[int, Rollout] = {}  # micro-step -> what further updates go on from

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """Trainer's; for several updates on the same samples, one that brings their pictures back in time."""
        args = self.args
        if args.num_iterations == 1:
            return super()._get_train_sampler(train_dataset)
        of_rank = args.per_device_train_batch_size * args.gradient_accumulation_steps
        seed = args.data_seed if args.data_seed is not None else args.seed
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return RepeatedChunks(len(dataset), of_rank * args.world_size, args.num_iterations, seed)

    def can_save(self, step: int) -> bool:
        """Where all updates on the same samples are done: those are not kept."""
        return step % self.args.num_iterations == 0

    @property
    def loss_weights(self) -> dict[str, float]:
        """The objective, and what is added to it."""
        added = {"kl": self.args.kl_beta, "xe": self.args.xe_weight}
        return {"loss": 1.0} | {name: weight for name, weight in added.items() if weight}

    def begin(self, model: nn.Module, batch: Batch) -> Sampled | None:
        """Samples, whose rewards are found beside; None where those of an earlier step serve once more."""
        if self.state.global_step % self.args.num_iterations:
            return None
        self._rollouts.pop(self._micro_step, None)
        return self._sampled(model, batch)

    def prepare(self, batch: Batch, begun: Sampled | None) -> tuple[Batch, dict[str, Tensor]] | None:
        """Rewards, advantages and references, or samples of an earlier step; None where those were skipped."""
        args = self.args
        if begun is not None:
            rollout, visual = self._rewarded(batch, begun), begun.visual
        else:
            earlier = self._rollouts.get(self._micro_step)
            if earlier is None:
                return None
            rollout, visual = earlier, earlier.visual
        nothing = torch.zeros_like(rollout.samples.mask, dtype=torch.float)
        counts = {"loss": self._objective(nothing, nothing, rollout).count}
        if args.kl_beta:
            counts["kl"] = counted(rollout.samples.mask, args.loss_normalization)
        references = None
        if args.xe_weight:
            references = self.references_of(batch["rows"])
            counts["xe"] = counted(references.mask, args.loss_normalization)
        return {**batch, "visual": visual, "rollout": rollout, "captions": references}, counts

    def batch_loss(self, model: nn.Module, batch: Batch) -> dict[str, Total]:
        """The differentiable pass over samples and references."""
        args, references = self.args, batch["captions"]
        rollout: Rollout = batch["rollout"]
        samples = rollout.samples
        k, length = samples.ids.shape[1:]
        scores = model(
            batch["visual"], samples if references is None else samples.join(references), temperature=args.temperature
        )
        log_probs = scores.log_probs[:, :k, :length]
        if args.num_iterations > 1:
            if rollout.log_probs is None:
                rollout = self._rollouts[self._micro_step] = rollout._replace(log_probs=log_probs.detach())
            self._note_clipped(log_probs, rollout)
        reference_log_probs = self._reference_log_probs(rollout)
        terms = {"loss": self._objective(log_probs, reference_log_probs, rollout)}
        if reference_log_probs is not None and args.kl_beta:
            terms["kl"] = kl_penalty(log_probs, reference_log_probs, samples.mask, args.loss_normalization)
            self.means.add("kl", terms["kl"].total.item(), terms["kl"].count.item())
        if references is not None:
            reference_length = references.ids.shape[2]
            terms["xe"] = cross_entropy(
                scores.log_probs[:, k:, :reference_length], references.mask, normalization=args.loss_normalization
            )
            self.means.add("xe_loss", terms["xe"].total.item(), terms["xe"].count.item())
        self.means.add("entropy", scores.entropy[:, :k].sum().item(), samples.mask.sum().item())
        self.last_samples = [text for of_image in rollout.rewarded.texts for text in of_image[:k]]
        self.last_records = rollout.records
        return terms

    def _sampled(self, model: nn.Module, batch: Batch) -> Sampled:
        """Captions from one encoding of each picture, handed to the rewards."""
        args, captioner, frozen = self.args, self.captioner, self.captioner.frozen
        k, compared = args.num_samples, args.baseline == "greedy"
        # A wrapper has to see the whole pass; dropout would make the two phases differ; with accumulation the graphs of
        # all micro-batches would have to be kept.
        alone = model is captioner and not captioner.synchronised
        encoded_once = alone and captioner.dropout_off and args.gradient_accumulation_steps == 1
        with self.phase("encode"):
            visual = self.seen(batch["visual"])
            with nullcontext() if encoded_once else evaluating(captioner):
                context = captioner.encode(visual)
        with self.phase("sample"):
            if args.baseline == "beam_mean":
                captions = captioner.beam_search(context, self.generation, num_return=k)
            else:
                generator = self.generator_here("sample", captioner.device)
                captions = captioner.sample(context, k, self.generation, generator, greedy=compared)
            samples = captions.pick(slice(k)) if compared else captions
            shown = self._shown(context, captions.pick(slice(k, None)) if compared else None)
        texts = captioner.decode(captions)
        finished = set(captioner.context_parts) <= frozen
        kept = context if finished else visual
        found: Callable[[], tuple[Rewarded, list[tuple[str, float]]]] = partial(self._rewards, batch, captions, texts)
        if args.overlap_rewards and args.gradient_accumulation_steps > 1:
            found = self._beside.submit(found)
        return Sampled(context if encoded_once else kept, kept, samples, texts, shown, found)

    def _rewards(
        self, batch: Batch, captions: CaptionTokens, texts: list[list[str]]
    ) -> tuple[Rewarded, list[tuple[str, float]]]:
        """What the rewards say, and the measures that they log."""
        measures: list[tuple[str, float]] = []
        with torch.autocast(self.captioner.device.type, enabled=False):  # rewards choose their precision themselves
            rewarded = self.rewarder(
                batch, captions, texts, self.state, lambda name, value: measures.append((name, value))
            )
        return rewarded, measures

    def _rewarded(self, batch: Batch, sampled: Sampled) -> Rollout:
        """The samples with their rewards, which are waited for, and advantages."""
        args, samples, device = self.args, sampled.samples, self.captioner.device
        k = samples.ids.shape[1]
        self.last_samples = [text for of_image in sampled.texts for text in of_image[:k]]
        with self.phase("reward"):
            rewarded, measures = sampled.rewards()
        for name, value in measures:
            self.means.add(name, value)
        total = rewarded.total.to(device)
        advantage = advantages(
            total[:, :k],
            args.baseline,
            greedy_rewards=total[:, k] if args.baseline == "greedy" else None,
            scale=args.scale_rewards,
            clip=args.advantage_clip,
        )
        self._note(samples)
        note_rewards(self.means, rewarded, k)
        records = sample_records(batch, rewarded, advantage, k, sampled.shown)
        return Rollout(samples, sampled.kept, rewarded, advantage, records)

    def _shown(self, context: VisualContext, greedy: CaptionTokens | None) -> list[str]:
        """The greedy captions that the table shows beside the samples of the first pictures, if it does."""
        if not self.will_show_samples(self.args.num_iterations):
            return []
        shown = context.first(self.args.samples_logged)
        if greedy is None:
            greedy = self.captioner.greedy(shown, self.generation)
        return [text for (text,) in self.captioner.decode(greedy)][: len(shown.states)]

    def _reference_log_probs(self, rollout: Rollout) -> Tensor | None:
        """Those of the captioner as it was, `[B, K, L]`; None where nothing is compared with it."""
        if self.reference_captioner is None:
            return None
        with torch.no_grad():
            scores = self.reference_captioner(rollout.visual, rollout.samples, temperature=self.args.temperature)
        return scores.log_probs

    def _objective(self, log_probs: Tensor, reference: Tensor | None, rollout: Rollout) -> Total:
        """What the samples and their rewards teach: advantages, or the order of the rewards."""
        args, mask = self.args, rollout.samples.mask
        if reference is not None and args.objective != "policy_gradient":
            scores = implicit_rewards(
                log_probs, reference, mask, args.beta, length_normalized=args.loss_normalization == "sequence"
            )
            rewards = rollout.rewarded.total[:, : mask.shape[1]].to(scores.device)
            if args.objective == "dico":
                return dico(scores, rewards, args.dico_temperature)
            return plackett_luce(*best_first(scores, rewards))
        if rollout.log_probs is None:
            return policy_gradient(log_probs, mask, rollout.advantage, args.loss_normalization)
        return clipped_policy_gradient(
            log_probs,
            rollout.log_probs,
            mask,
            rollout.advantage,
            epsilon=args.epsilon,
            epsilon_high=args.epsilon_high,
            normalization=args.loss_normalization,
        )

    def _note_clipped(self, log_probs: Tensor, rollout: Rollout) -> None:
        args = self.args
        if rollout.log_probs is not None and args.objective == "policy_gradient":
            moved = (log_probs, rollout.log_probs, rollout.samples.mask, rollout.advantage)
            clipped = clipped_share(*moved, epsilon=args.epsilon, epsilon_high=args.epsilon_high)
            self.means.add("clip_ratio", clipped.total.item(), clipped.count.item())

    def _note(self, samples: CaptionTokens) -> None:
        lengths = samples.mask.sum(-1).float()
        captions = lengths.numel()
        self.means.add("completions/mean_length", lengths.sum().item(), captions)
        self.means.add("completions/clipped_ratio", (~samples.finished).sum().item(), captions)
