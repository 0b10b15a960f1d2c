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
from rlcap.data.stream import CaptionStream
from rlcap.objectives.advantages import advantages
from rlcap.objectives.cross_entropy import cross_entropy
from rlcap.objectives.dico import dico
from rlcap.objectives.policy_gradient import kl_penalty, policy_gradient
from rlcap.objectives.ranking import best_first, implicit_rewards, plackett_luce
from rlcap.objectives.reduction import Total
from rlcap.training.captioner_trainer import Batch, CaptionerTrainer
from rlcap.training.rewarding import Rewarder, note_rewards, sample_records
from rlcap.training.scst_arguments import SCSTArguments


class Sampled(NamedTuple):
    """Captions, the encoding they came from, and what they are scored from.

    policy: what the captioner in training starts from; others: what any captioner with the same frozen parts does.
    """

    samples: CaptionTokens
    greedy: CaptionTokens | None
    context: VisualContext
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
        train_dataset: datasets.Dataset | CaptionStream,
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
        compared = args.kl_beta or args.objective != "policy_gradient"
        self.reference_captioner = _frozen_copy(captioner) if compared else None

    def batch_loss(self, model: nn.Module, batch: Batch) -> Total:
        """One micro-batch: sample, reward, compare with the baseline, and the differentiable pass."""
        args = self.args
        samples, greedy, context, visual, visual_of_reference = self._sample(model, batch["visual"])
        captions = samples if greedy is None else samples.join(greedy)
        with self.phase("reward"):
            texts = self.captioner.decode(captions)
            rewarded = self.rewarder(batch, captions, texts, self.state, self.means.add)
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
        reference_log_probs = self._reference_log_probs(visual_of_reference, samples)
        loss = self._objective(log_probs, reference_log_probs, samples.mask, advantage, total_rewards[:, :k])
        total = loss.total
        # The other terms are scaled to the same count, so that each is a mean once the sum is divided by it.
        if reference_log_probs is not None:
            kl = kl_penalty(log_probs, reference_log_probs, samples.mask, args.loss_normalization)
            self.means.add("kl", kl.total.item(), kl.count.item())
            total = total + args.kl_beta * loss.count * kl.mean
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
        shown = min(args.samples_logged, len(batch["rows"])) if self.will_show_samples() else 0
        if shown:
            if greedy is None:
                greedy_texts = self.captioner.decode(self.captioner.greedy(context.first(shown), self.generation))
            else:
                greedy_texts = [of_image[k:] for of_image in rewarded.texts]
            self.last_records = sample_records(
                batch, rewarded, advantage, k, [text for (text,) in greedy_texts[:shown]]
            )
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
        with self.phase("sample"):
            if self.args.baseline == "beam_mean":
                samples = captioner.beam_search(context, self.generation, num_return=self.args.num_samples)
            else:
                generator = self.generator_here("sample", captioner.device)
                samples = captioner.sample(context, self.args.num_samples, self.generation, generator)
            greedy = captioner.greedy(context, self.generation) if self.args.baseline == "greedy" else None
        finished = set(captioner.context_parts) <= frozen
        policy = context if finished or encoded_once else visual
        return Sampled(samples, greedy, context, policy, context if finished else visual)

    def _reference_log_probs(self, visual: dict[str, Tensor] | VisualContext, samples: CaptionTokens) -> Tensor | None:
        """Those of the captioner as it was, `[B, K, L]`; None where nothing is compared with it."""
        if self.reference_captioner is None:
            return None
        with torch.no_grad():
            return self.reference_captioner(visual, samples, temperature=self.args.temperature).log_probs

    def _objective(
        self, log_probs: Tensor, reference: Tensor | None, mask: Tensor, advantage: Tensor, rewards: Tensor
    ) -> Total:
        """What the samples and their rewards `[B, K]` teach: advantages, or the order of the rewards."""
        args = self.args
        if reference is None or args.objective == "policy_gradient":
            return policy_gradient(log_probs, mask, advantage, args.loss_normalization)
        scores = implicit_rewards(
            log_probs, reference, mask, args.beta, length_normalized=args.loss_normalization == "sequence"
        )
        if args.objective == "dico":
            return dico(scores, rewards, args.dico_temperature)
        return plackett_luce(*best_first(scores, rewards))

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
