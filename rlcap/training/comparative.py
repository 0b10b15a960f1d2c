"""Training of the comparative scorer's head, on vectors that are all in memory."""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.comparative.head import Head, HeadConfig
from rlcap.console import progress
from rlcap.data import pairs as pairing
from rlcap.data.pairs import Pairs
from rlcap.evaluation.correlations import correlations
from rlcap.evaluation.judged import pair_accuracy
from rlcap.failures import under_way
from rlcap.launching.stopping import Notice, Stopped
from rlcap.objectives import comparative as objectives
from rlcap.objectives.ranking import bradley_terry
from rlcap.tracking.run_directory import append_metrics, truncate_metrics
from rlcap.training import checkpoints
from rlcap.training.comparative_arguments import ComparativeArguments
from rlcap.training.comparative_vectors import JudgedVectors
from rlcap.training.not_finite import NotFinite
from rlcap.training.randomness import seed_of

STATE = "state.pt"
_LOWEST = 1e-4  # share of the learning rate that the cosine ends at, as published
_ROWS = 4096  # captions scored at a time


@dataclass
class State:
    """Where a training is: all that a resume needs, since randomness follows from seed and epoch."""

    epoch: int = 0
    step: int = 0
    asked: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf
    stopped: bool = False


class HeadTraining:
    """Trains a head on the judgments `train`, and keeps the weights that do best on `val`.

    run_dir: where metrics and checkpoints go, and where a killed run goes on from; None leaves nothing behind.
    Raises ValueError where the data has not what the loss or the pairs need.
    """

    def __init__(
        self, train: JudgedVectors, val: JudgedVectors, args: ComparativeArguments, run_dir: Path | None = None
    ) -> None:
        self.data, self.val, self.args, self.run_dir = train, val, args, run_dir
        self.device = args.device
        self.best_metric = args.best_metric or ("pair_accuracy" if args.pairs == "given" else "spearman")
        self._check_data()
        self.levels = pairing.levels_of(train.ratings, args.round_ratings)
        self.val_pairs = self._validation_pairs() if args.pairs == "given" or not np.isnan(val.ratings).any() else None
        torch.manual_seed(seed_of(args.seed, "weights"))
        sizes = train.pictures.shape[1], train.sentences.shape[1]
        self.head = Head(HeadConfig(*sizes, list(args.hidden), list(args.dropout), args.batch_norm))
        self.head.fit_inputs(*train.rows(torch.arange(len(train))))
        if not args.on_pairs:
            self.head.start_at(float(train.ratings.mean()))
        self.head.to(self.device)
        kernels = self.head.kernels()
        others = [parameter for parameter in self.head.parameters() if all(parameter is not own for own in kernels)]
        # The gradient of l2 * w^2 is 2 * l2 * w, what Adam's weight_decay adds of weight_decay * w.
        groups = [{"params": kernels, "weight_decay": 2 * args.l2}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.Adam(groups, lr=args.learning_rate, eps=1e-7)
        self.state = State()
        self.pairs = np.zeros((0, 2), dtype=np.int64)
        self.best = deepcopy(self.head.state_dict())

    def run(self, *, quiet: bool = False) -> Head:
        """Trains to the end, or goes on from the last complete checkpoint, and gives the best head, in eval mode.

        Raises Stopped at the end of the epoch in which it was told to stop, its checkpoint written.
        """
        args, state = self.args, self.state
        if self.run_dir is not None:
            self._resume(self.run_dir)
        with (
            Notice() as notice,
            progress(total=args.epochs, initial=state.epoch, desc="epochs", unit="epoch", disable=quiet) as bar,
        ):
            while state.epoch < args.epochs and not state.stopped:
                self._add_pairs()
                with under_way():
                    metrics = {"loss": self._epoch(), **{f"eval/{k}": v for k, v in self.evaluate().items()}}
                state.epoch += 1
                self._note_best(metrics[f"eval/{self.best_metric}"])
                patient_since = max(state.best_epoch, self._last_round * self._epochs_a_round)
                state.stopped = state.epoch - patient_since >= args.patience
                if self.run_dir is not None:
                    append_metrics(self.run_dir / "metrics.jsonl", state.step, {**metrics, "epoch": state.epoch})
                    if (
                        state.epoch % args.save_epochs == 0
                        or state.epoch == args.epochs
                        or state.stopped
                        or notice.number
                    ):
                        self._save(self.run_dir)
                if notice.number:
                    raise Stopped(notice.number)
                bar.set_postfix({self.best_metric: f"{metrics[f'eval/{self.best_metric}']:.3f}"}, refresh=False)
                bar.update()
        self.head.load_state_dict(self.best)
        return self.head.eval()

    @torch.no_grad()
    def scores(self, vectors: JudgedVectors) -> np.ndarray:
        """The head's scores [N], in eval mode."""
        self.head.eval()
        parts = [
            self.head(*(rows.to(self.device) for rows in vectors.rows(index))).double().cpu()
            for index in torch.arange(len(vectors)).split(_ROWS)
        ]
        return torch.cat(parts).numpy()

    def evaluate(self) -> dict[str, float]:
        """On validation: Spearman's correlation with ratings, accuracy over pairs, and the loss (of ratings: all)."""
        scores = self.scores(self.val)
        found: dict[str, float] = {}
        if not np.isnan(self.val.ratings).any():
            found |= correlations(scores, self.val.ratings, ["spearman"], undefined=0.0)  # the others cost more
        if self.val_pairs is not None and len(self.val_pairs):
            found["pair_accuracy"] = pair_accuracy(scores, self.val_pairs)
        index = self.val_pairs if self.args.on_pairs else np.arange(len(self.val))
        assert index is not None
        taken = torch.from_numpy(index)
        ratings = torch.from_numpy(self.val.ratings)
        found["loss"] = self._loss(torch.from_numpy(scores)[taken], ratings[taken]).item()
        return found

    def _epoch(self) -> float:
        """One pass in random order, or its first steps; the mean loss."""
        args, where = self.args, (self.args.seed, "epoch", self.state.epoch)
        torch.manual_seed(seed_of(*where))  # dropout
        self.head.train()
        rows = torch.from_numpy(self.pairs) if args.on_pairs else torch.arange(len(self.data))
        order = rows[torch.randperm(len(rows))]
        ratings = torch.from_numpy(self.data.ratings).float()
        # A single row has no batch statistics; a pair has two rows.
        batches = [batch for batch in order.split(args.batch_size) if batch.numel() > 1]
        batches = batches[: args.steps_per_epoch]
        total_steps = args.decay_steps or self._steps_in_all()
        sum_of_losses = 0.0
        for batch in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = args.learning_rate * cosine(self.state.step, total_steps)
            scores = self.head(*(own.to(self.device) for own in self.data.rows(batch.flatten()))).view(batch.shape)
            loss = self._loss(scores, ratings[batch].to(self.device))
            if not torch.isfinite(loss):
                raise NotFinite(f"the loss is {loss.item()} in step {self.state.step}; lower learning_rate")
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.state.step += 1
            sum_of_losses += loss.item()
        return sum_of_losses / len(batches)

    def _loss(self, scores: Tensor, ratings: Tensor) -> Tensor:
        """Of pairs the scores are [B, 2], better first; else [B] with ratings [B]."""
        name, args = self.args.loss, self.args
        if name == "hinge":
            return objectives.hinge(scores[:, 0], scores[:, 1], args.margin).mean
        if name == "bradley_terry":
            return bradley_terry(scores, torch.ones_like(scores, dtype=torch.bool)).mean
        if name == "mse":
            return objectives.squared_error(scores, ratings).mean
        loss = objectives.absolute_error(scores, ratings).mean
        if name == "mae":
            return loss
        return loss + args.penalty_weight * objectives.ranking_penalty(scores, ratings, smooth=name == "mae_tanh")

    @property
    def _selects(self) -> bool:
        return self.args.on_pairs and self.args.pairs in ("hard", "active")

    @property
    def _epochs_a_round(self) -> int:
        return self.args.epochs // self.args.rounds

    @property
    def _last_round(self) -> int:
        """The round that trains to the end; 0 where all pairs are there from the start."""
        return self.args.rounds - 1 if self._selects else 0

    def _steps_in_all(self) -> int:
        rows = self._budget if self.args.on_pairs else len(self.data)
        a_pass = math.ceil(rows / self.args.batch_size)
        return self.args.epochs * min(a_pass, self.args.steps_per_epoch or a_pass)

    @property
    def _budget(self) -> int:
        """Pairs that the training may use in the end."""
        if self.args.pairs == "given":
            return len(self.data.preferences)
        return self.args.pairs_per_caption * len(self.data)

    def _add_pairs(self) -> None:
        """The pairs of a round that begins: all of them in the first, or what the present scores choose."""
        args, epoch = self.args, self.state.epoch
        if not args.on_pairs or (epoch and not self._selects):
            return
        if epoch % self._epochs_a_round and epoch:
            return
        number = epoch // self._epochs_a_round
        if number > self._last_round:
            return
        found = self._chosen(number, np.random.default_rng(seed_of(args.seed, "pairs", number)))
        if not len(found.pairs) and not len(self.pairs):
            raise ValueError(f"there is no pair to train on: no two captions differ in what people said ({args.pairs})")
        self.pairs = np.concatenate([self.pairs, found.pairs])
        self.state.asked += found.asked

    def _chosen(self, number: int, rng: np.random.Generator) -> Pairs:
        args = self.args
        if args.pairs == "given":
            return Pairs(self.data.preferences, len(self.data.preferences))
        if args.pairs == "same_image":
            return pairing.same_image_pairs(self.levels, self.data.picture_of.numpy(), self._budget, rng)
        if not self._selects:
            return pairing.random_pairs(self.levels, self._budget, rng)
        shares = np.linspace(0, self._budget, args.rounds + 1).astype(int)
        count = int(shares[number + 1] - shares[number])
        if number == 0:
            return pairing.random_pairs(self.levels, count, rng)
        choose = pairing.uncertain_pairs if args.pairs == "active" else pairing.hardest_pairs
        return choose(self.levels, self.scores(self.data), count, args.pool_factor * count, rng, self.pairs)

    def _validation_pairs(self) -> np.ndarray:
        """The same for every seed and every N."""
        args, levels = self.args, pairing.levels_of(self.val.ratings, self.args.round_ratings)
        if args.pairs == "given":
            return self.val.preferences
        if args.pairs == "same_image":
            return pairing.same_image_pairs(levels, self.val.picture_of.numpy()).pairs
        rng = np.random.default_rng(seed_of(args.split_seed, "validation pairs"))
        return pairing.random_pairs(levels, 20 * len(self.val), rng).pairs

    def _note_best(self, value: float) -> None:
        value = -value if self.best_metric == "loss" else value
        if value > self.state.best_value:
            self.state.best_value, self.state.best_epoch = value, self.state.epoch
            self.best = deepcopy(self.head.state_dict())

    def _check_data(self) -> None:
        given, named = self.args.pairs == "given", {"train": self.data, "val": self.val}
        for split, vectors in named.items():
            if len(vectors) < 2:
                raise ValueError(f"the split {split} has {len(vectors)} captions; at least 2 are needed")
            if given and not len(vectors.preferences):
                raise ValueError(
                    f'pairs is "given", but the split {split} has no preferences (lines with better, worse)'
                )
            if not given and np.isnan(vectors.ratings).any():
                raise ValueError(f"captions of the split {split} have no ratings; with pairs: given none are needed")
        if given and self.best_metric == "spearman":
            raise ValueError("best_metric is 'spearman', but given pairs may have no ratings; choose pair_accuracy")

    def _save(self, run_dir: Path) -> None:
        target = run_dir / f"{checkpoints.PREFIX}{self.state.epoch}"
        with checkpoints.whole_directory(target) as folder:
            content: dict[str, Any] = {
                "head": self.head.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "pairs": torch.from_numpy(self.pairs),
                "state": vars(self.state),
            }
            torch.save(content, folder / STATE)
        checkpoints.rotate(run_dir, 1, self.state.epoch)

    def _resume(self, run_dir: Path) -> None:
        found = checkpoints.last_complete(run_dir)
        if found is not None:
            content = torch.load(found / STATE, map_location=self.device, weights_only=True)
            self.head.load_state_dict(content["head"])
            self.best = content["best"]
            self.optimizer.load_state_dict(content["optimizer"])
            self.pairs = content["pairs"].cpu().numpy()
            vars(self.state).update(content["state"])
        truncate_metrics(run_dir / "metrics.jsonl", self.state.step if found else -1)


def cosine(step: int, steps: int) -> float:
    """The share of the learning rate in a step, from 1 to 1e-4 (Keras' CosineDecay)."""
    return (1 - _LOWEST) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)) + _LOWEST
