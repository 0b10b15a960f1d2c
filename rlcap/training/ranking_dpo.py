"""Ranking-DPO: the captions of a chain, each a detail worse than the one before, are to be scored in that order.

A caption's score is its implicit reward, beta (log policy - log reference). A step encodes the picture of each chain
once, with gradient through the vision model where it trains, and scores all captions of the chain from that encoding.
(Rafailov et al. 2023; for chains of captions arXiv 2603.25145.)
"""

import math
from pathlib import Path
from typing import Any

import datasets
from accelerate.utils import gather_object
from torch import Tensor, nn

from captioners.base import Captioner
from captioners.types import CaptionTokens
from captioners.weights import fingerprint
from rlcap.captioning import evaluating
from rlcap.chain_scoring import LogProbs, caption_scores, score_chains, unpadded
from rlcap.console import say
from rlcap.data.blind import VISUAL
from rlcap.data.chain_prompts import require_prompt
from rlcap.data.content import looked_at
from rlcap.data.fingerprint import rows_fingerprint
from rlcap.data.tables import with_columns
from rlcap.data.write_features import frames_of
from rlcap.evaluation.ranking import means, ranking_sums
from rlcap.objectives.ranking import bradley_terry, implicit_rewards, lambda_loss, plackett_luce, ranked
from rlcap.objectives.reduction import Total, counted, reduce_tokens
from rlcap.training.captioner_trainer import Batch, CaptionerTrainer
from rlcap.training.chain_measures import chain_sums
from rlcap.training.chain_rows import captioned_pictures, check_chains
from rlcap.training.ranking_arguments import RankingArguments
from rlcap.training.reference import AdaptersOff, FrozenCopy, Reference, Stored, Visual, placed
from rlcap.training.reference_store import preprocessing_of, stored_chains


class RankingTrainer(CaptionerTrainer):
    """Ranking-DPO on chains of captions.

    train_dataset, eval_dataset: rows of `rlcap.data.load_chains`. Evaluation ranks the chains, and captions each of
    their pictures once, measured against `references`, or where a row has none against the best captions.
    """

    args: RankingArguments

    def __init__(
        self,
        captioner: Captioner,
        args: RankingArguments,
        train_dataset: datasets.Dataset,
        eval_dataset: datasets.Dataset | None = None,
        **options: Any,
    ) -> None:
        self._start_weights = fingerprint([captioner]) if args.reference == "stored" else ""  # LoRA is added below
        positions = datasets.Dataset.from_dict({"position": list(range(len(train_dataset)))})
        train_dataset = with_columns(train_dataset, positions)
        super().__init__(captioner, args, train_dataset, eval_dataset, **options)
        if args.max_caption_length is None:
            args.max_caption_length = captioner.codec.limit
        for name, dataset in (("training", train_dataset), ("held-out", eval_dataset)):
            if dataset is not None:
                require_prompt(dataset, captioner.prompt)
                bar = self.is_world_process_zero() and not args.disable_tqdm
                tokens = check_chains(captioner, dataset, args.max_caption_length, bar=bar)
                if tokens.cut and self.is_world_process_zero():
                    say(
                        f"{tokens.cut} of {tokens.captions} captions of the {name} chains are cut at "
                        f"{args.max_caption_length} tokens (max_caption_length)"
                    )
        if args.eval_max_new_tokens is None:
            args.eval_max_new_tokens = tokens.longest_best  # of the held-out chains, where there are any
        self._reference: Reference | None = None
        if args.reference == "frozen_copy":
            self._reference = FrozenCopy(captioner, self.accelerator)
        elif args.reference == "adapters_off":
            self._reference = AdaptersOff(captioner)
        self._evaluated: list[tuple[datasets.Dataset, list[LogProbs | None]]] = []  # chains under the reference

    def train(self, *what: Any, **options: Any) -> Any:
        """Trains; before that the reference is stored, where it is to be, by the captioner as it is now."""
        if self.args.reference == "stored":
            self._reference = Stored(self._stored(self.train_dataset, "reference"))
            self.data_collator = self._reference.collator(self.data_collator)
            if self.eval_dataset is not None:
                self._under_reference(self.eval_dataset)
        return super().train(*what, **options)

    # The step

    @property
    def loss_weights(self) -> dict[str, float]:
        """The ranking, and the best captions."""
        return {"loss": 1.0} | ({"xe": self.args.xe_weight} if self.args.xe_weight else {})

    def prepare(self, batch: Batch, begun: None) -> tuple[Batch, dict[str, Tensor]]:
        """The chains, tokenized, and their number."""
        captions = self.captioner.tokenize([row["captions"] for row in batch["rows"]], self.args.max_caption_length)
        captions = captions.to(self.captioner.device)
        counts = {"loss": ranked(captions.caption_mask)}
        if self.args.xe_weight:
            counts["xe"] = counted(captions.mask[:, :1], "sequence")
        return {**batch, "captions": captions}, counts

    def batch_loss(self, model: nn.Module, batch: Batch) -> dict[str, Total]:
        """The objective summed over the chains of a micro-batch, and their number."""
        args, captions = self.args, batch["captions"]
        with self.phase("encode"):
            visual = self._encoded(batch["visual"])
        with self.phase("reference"):
            assert self._reference is not None, "train() has stored it"
            reference = self._reference.log_probs(batch["rows"], visual, captions)
        scores = model(visual, captions)
        rewards = implicit_rewards(
            scores.log_probs,
            reference,
            captions.mask,
            args.beta,
            length_normalized=args.loss_normalization == "sequence",
        )
        terms = {"loss": self._objective(rewards, captions.caption_mask)}
        if args.xe_weight:
            terms["xe"] = reduce_tokens(-scores.log_probs[:, :1], captions.mask[:, :1], "sequence")
            self.means.add("xe_loss", terms["xe"].total.item(), terms["xe"].count.item())
        self.means.add("entropy", scores.entropy.sum().item(), captions.mask.sum().item())
        self._note(batch, captions, scores.log_probs, reference)
        return terms

    def _encoded(self, visual: dict[str, Tensor]) -> Visual:
        """What policy and reference can share: the context where all that makes it is frozen, else features, if any."""
        visual = self.seen(visual)
        if not set(self.captioner.context_parts) <= self.captioner.frozen:
            return visual
        with evaluating(self.captioner):
            return self.captioner.encode(visual)

    def _objective(self, rewards: Tensor, caption_mask: Tensor) -> Total:
        args = self.args
        if args.objective == "bradley_terry":
            return bradley_terry(rewards, caption_mask, pairs=args.pairs, label_smoothing=args.label_smoothing)
        objective = plackett_luce if args.objective == "plackett_luce" else lambda_loss
        return objective(rewards, caption_mask, label_smoothing=args.label_smoothing)

    def _note(self, batch: Batch, captions: CaptionTokens, log_probs: Tensor, reference: Tensor) -> None:
        rows = batch["rows"]
        chains = unpadded(log_probs, captions), unpadded(reference, captions)
        # By kind of edit at evaluation alone, where there is enough of each.
        for name, pair in chain_sums(*chains, None, self.args.beta, self.args.loss_normalization).items():
            self.means.add(name, *pair)
        if self.will_show_samples():
            self.last_records = [
                record for row, *own in zip(rows, *chains, strict=True) for record in self._records(row, *own)
            ][: self.args.samples_logged * captions.ids.shape[1]]

    def _records(self, row: dict[str, Any], policy: LogProbs, reference: LogProbs) -> list[dict[str, Any]]:
        """What the table shows of a chain: a record a caption, its reward the implicit one."""
        scores = [caption_scores(chain, self.args.loss_normalization) for chain in (policy, reference)]
        return [
            {
                "image_id": row["image_id"],
                "image": looked_at(row)[0],
                "caption": caption,
                "rewards": {"log_prob": ours, "log_prob_reference": theirs},
                "reward": self.args.beta * (ours - theirs),
                "advantage": None,
                "greedy": None,
                "references": row["captions"][:1],
                "extra": {"position": k, "edit": kind},
            }
            for k, (caption, ours, theirs, kind) in enumerate(
                zip(row["captions"], *scores, ["", *row["kinds"]], strict=True), start=1
            )
        ]

    # Evaluation

    def pictures_of(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """Each picture of the chains once, with its references, or its chains' best captions."""
        return captioned_pictures(dataset)

    def other_measures(self, dataset: datasets.Dataset) -> dict[str, float]:
        """How the captioner ranks the chains, overall and by kind of edit.

        `ranking/…`, `rewards/…`, `log_probs/…`, `kl_lower_bound`: as in training, by implicit reward;
        `assessment/…`: by log-probability alone, which needs no reference.
        """
        args = self.args
        policy: list[LogProbs] = []
        reference: list[LogProbs] = []
        kinds: list[list[str]] = []
        scored = self._scored(self.captioner, dataset, "chains"), self._under_reference(dataset)
        for ours, theirs, own in zip(*scored, dataset["kinds"], strict=True):
            if ours is not None and theirs is not None:
                policy.append(ours)
                reference.append(theirs)
                kinds.append(own)
        sums = chain_sums(policy, reference, kinds, args.beta, args.loss_normalization)
        assessed = ranking_sums([caption_scores(chain, args.loss_normalization) for chain in policy], kinds)
        return means(sums | {f"assessment/{name}": pair for name, pair in assessed.items()})

    # Chains under the reference

    def _under_reference(self, dataset: datasets.Dataset) -> list[LogProbs | None]:
        """What the reference says of the chains of a data set, computed once."""
        for known, chains in self._evaluated:
            if known is dataset:
                return chains
        if self._reference is None or isinstance(self._reference, Stored):
            chains = self._stored(dataset, "reference")
        else:
            with self._reference.captioner() as reference:
                chains = self._scored(reference, dataset, "reference")
        self._evaluated.append((dataset, chains))
        return chains

    def _scored(self, captioner: Captioner, dataset: datasets.Dataset, bar: str) -> list[LogProbs | None]:
        """The log-probabilities of all chains of a data set; ranks share the work."""
        rank, world = self.args.process_index, self.args.world_size
        # Equally many on each rank, as pictures to caption.
        own = [min(index, len(dataset) - 1) for index in range(rank, math.ceil(len(dataset) / world) * world, world)]
        scored = list(self._score(captioner, dataset, own, bar))
        found = dict(gather_object(scored))
        return [found[position] for position in range(len(dataset))]

    def _score(self, captioner: Captioner, dataset: datasets.Dataset, positions: Any, bar: str) -> Any:
        args = self.args
        shown = self.is_world_process_zero() and not args.disable_tqdm
        with self.accelerator.autocast():
            yield from score_chains(
                captioner,
                dataset,
                max_caption_length=args.max_caption_length,
                features=self.features,
                batch_size=args.per_device_eval_batch_size,
                workers=args.dataloader_num_workers,
                max_bad_images=args.max_bad_images,
                positions=positions,
                share_of=math.ceil(len(dataset) / args.world_size),
                bar=bar if shown else None,
            )

    def _stored(self, dataset: datasets.Dataset, bar: str) -> list[LogProbs | None]:
        """The same under the captioner of the start, from the disk where they are there."""
        args = self.args
        header = {
            "weights": self._start_weights,
            "chains": rows_fingerprint(dataset, of=(*VISUAL, "captions")),
            "max_caption_length": args.max_caption_length,
            "precision": self.accelerator.mixed_precision,
            "prompt": self.captioner.prompt,
            "features": self.features is not None,
            "seen": {"preprocessor": preprocessing_of(self.captioner), **frames_of(dataset)},
        }

        def score(positions: Any) -> Any:
            if self.state.global_step:
                raise ValueError("the reference of these chains was not stored before the training: call train() first")
            with placed(self.captioner, self.accelerator.device):
                yield from self._score(self.captioner, dataset, positions, bar)

        return stored_chains(
            self.run_dir / "reference" if args.reference_dir is None else Path(args.reference_dir),
            header,
            len(dataset),
            score,
            rank=args.process_index,
            world=args.world_size,
            retry=not self.state.global_step,  # later the captioner is another one
            wait=self.accelerator.wait_for_everyone,
        )
