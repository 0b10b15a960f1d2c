"""Self-critical sequence training: sample captions, reward them, make the better ones more likely.

A step encodes each picture, samples K captions from that encoding, scores them with the rewards, compares with a
baseline, and takes one differentiable pass over all K captions. One encoding serves both in a single process without
dropout; otherwise the differentiable pass encodes again what trains: a frozen vision model does not run twice.
"""

import copy
from contextlib import nullcontext
from typing import Any, NamedTuple

import datasets
import torch
from torch import Tensor, nn

from captioners.base import Captioner
from captioners.types import CaptionTokens, GenerationSettings, VisualContext
from rewards import Reward
from rlcap.captioning import evaluating
from rlcap.objectives.advantages import advantages
from rlcap.objectives.cross_entropy import cross_entropy
from rlcap.objectives.policy_gradient import kl_penalty, policy_gradient
from rlcap.objectives.reduction import Total
from rlcap.training.captioner_trainer import Batch, CaptionerTrainer
from rlcap.training.rewarding import Rewarder, note_rewards, sample_records
from rlcap.training.scst_arguments import SCSTArguments


class Sampled(NamedTuple):
    """Captions, and what a captioner scores them from.

    policy: what the captioner in training starts from; others: what any captioner with the same frozen parts does.
    """

    samples: CaptionTokens
    greedy: CaptionTokens | None
    policy: dict[str, Tensor] | VisualContext
    others: dict[str, Tensor] | VisualContext


class SCSTTrainer(CaptionerTrainer):
    """Policy gradient on sampled captions.

    reward_functions: callables of the contract in `rewards`, one a name of `args.rewards`, weighted by
    `args.reward_weights`. They see B·K completions in flat lists and the columns of the dataset.
    """

    args: SCSTArguments

    def __init__(
        self,
        captioner: Captioner,
        args: SCSTArguments,
        train_dataset: datasets.Dataset,
        eval_dataset: datasets.Dataset | None = None,
        *,
        reward_functions: list[Reward],
        **options: Any,
    ) -> None:
        needs = {column for reward in reward_functions for column in reward.needs}
        super().__init__(captioner, args, train_dataset, eval_dataset, keep_images="images" in needs, **options)
        weights = args.reward_weights or [1.0] * len(reward_functions)
        self.rewarder = Rewarder(reward_functions, weights, args.reward_aggregation)
        self.generation = GenerationSettings(
            max_new_tokens=args.max_new_tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            num_beams=args.num_samples,
        )
        self.reference_captioner = _frozen_copy(captioner) if args.kl_beta else None

    def batch_loss(self, model: nn.Module, batch: Batch) -> Total:
        """One micro-batch: sample, reward, compare with the baseline, and the differentiable pass."""
        args = self.args
        samples, greedy, visual, visual_of_reference = self._sample(model, batch["visual"])
        captions = samples if greedy is None else samples.join(greedy)
        with self.phase("reward"):
            rewarded = self.rewarder(batch, captions, self.captioner.decode(captions))
        k = samples.ids.shape[1]
        total_rewards = rewarded.total.to(self.captioner.device)
        advantage = advantages(
            total_rewards[:, :k],
            args.baseline,
            greedy_rewards=None if greedy is None else total_rewards[:, k],
            scale=args.scale_rewards,
            clip=args.advantage_clip,
        )
        references = self.references_of(batch["rows"]) if args.xe_weight else None
        scores = model(
            visual, samples if references is None else samples.join(references), temperature=args.temperature
        )
        length = samples.ids.shape[2]
        log_probs = scores.log_probs[:, :k, :length]
        loss = policy_gradient(log_probs, samples.mask, advantage, args.loss_normalization)
        total = loss.total
        # The other terms are scaled to the same count, so that each is a mean once the sum is divided by it.
        if self.reference_captioner is not None:
            total = total + args.kl_beta * loss.count * self._kl(visual_of_reference, samples, log_probs).mean
        if references is not None:
            reference_length = references.ids.shape[2]
            xe = cross_entropy(
                scores.log_probs[:, k:, :reference_length], references.mask, normalization=args.loss_normalization
            )
            self.means.add("xe_loss", xe.total.item(), xe.count.item())
            total = total + args.xe_weight * loss.count * xe.mean
        self.means.add("entropy", scores.entropy[:, :k].sum().item(), samples.mask.sum().item())
        self._note(samples)
        note_rewards(self.means, rewarded, k)
        self.last_samples = [text for of_image in rewarded.texts for text in of_image[:k]]
        self.last_records = sample_records(batch, rewarded, advantage, k)[: args.samples_logged]
        return Total(total, loss.count)

    def _sample(self, model: nn.Module, visual: dict[str, Tensor]) -> Sampled:
        """Samples from one encoding of each picture, from which the differentiable pass goes on where it can."""
        captioner, frozen = self.captioner, self.captioner.frozen
        # A wrapper has to see the whole pass; dropout would make the two phases differ.
        encoded_once = model is captioner and captioner.dropout_off
        with self.phase("encode"):
            if "vision" in frozen and "features" not in visual:
                kept = {name: tensor for name, tensor in visual.items() if name == "frame_mask"}
                with evaluating(captioner):
                    visual = {"features": captioner.features(visual), **kept}
            with nullcontext() if encoded_once else evaluating(captioner):
                context = captioner.encode(visual)
        with self.phase("sample"), evaluating(captioner):
            if self.args.baseline == "beam_mean":
                samples = captioner.beam_search(context, self.generation, num_return=self.args.num_samples)
            else:
                generator = self.generator_here("sample", captioner.device)
                samples = captioner.sample(context, self.args.num_samples, self.generation, generator)
            greedy = captioner.greedy(context, self.generation) if self.args.baseline == "greedy" else None
        finished = set(captioner.context_parts) <= frozen
        return Sampled(
            samples, greedy, context if finished or encoded_once else visual, context if finished else visual
        )

    def _kl(self, visual: dict[str, Tensor] | VisualContext, samples: CaptionTokens, log_probs: Tensor) -> Total:
        """The KL estimate to the captioner as it was, summed over the samples' tokens (or captions)."""
        assert self.reference_captioner is not None
        with torch.no_grad():
            reference = self.reference_captioner(visual, samples, temperature=self.args.temperature).log_probs
        penalty = kl_penalty(log_probs, reference, samples.mask, self.args.loss_normalization)
        self.means.add("kl", penalty.total.item(), penalty.count.item())
        return penalty

    def _note(self, samples: CaptionTokens) -> None:
        lengths = samples.mask.sum(-1).float()
        captions = lengths.numel()
        self.means.add("completions/mean_length", lengths.sum().item(), captions)
        self.means.add("completions/clipped_ratio", (~samples.finished).sum().item(), captions)


def _frozen_copy(captioner: Captioner) -> Captioner:
    """The captioner as it is now, in eval mode; what never trains is shared, not copied."""
    shared = {
        id(module): module
        for part, modules in captioner.parts().items()
        if part in captioner.frozen
        for module in modules
    }
    kept = {id(parameter): parameter for parameter in captioner.parameters() if not parameter.requires_grad}
    reference = copy.deepcopy(captioner, memo=shared | kept)
    return reference.requires_grad_(False).eval()
