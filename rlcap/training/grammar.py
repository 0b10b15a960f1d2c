"""Training of the grammar reward: real captions against the same captions broken in one of five ways."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import EvalPrediction

from rewards.grammar_model import GrammarModel, normal_form
from rlcap.data.corruptions import CORRUPTIONS, can_be_corrupted, corrupt
from rlcap.training.arguments import require
from rlcap.training.reward_trainer import RewardArguments, RewardTrainer

KINDS = tuple(CORRUPTIONS)
REAL = -1  # in place of the number of a kind


@dataclass
class GrammarArguments(RewardArguments):
    """The keys of `rlcap reward grammar`."""

    # > Parameters of the data
    data: str = field(
        default="", metadata={"help": "captions, of any source that `rlcap xe` reads; no picture is opened"}
    )
    data_format: str = field(default="auto", metadata={"help": "auto, karpathy, coco, jsonl, datasets or tar"})
    max_eval_captions: int | None = field(
        default=1000, metadata={"help": "captions that are evaluated, each real and in five broken forms; nothing: all"}
    )
    negatives: int = field(default=4, metadata={"help": "broken forms of a training caption, the same in every epoch"})

    # > Parameters of the model
    encoder: str = field(default="", metadata={"help": "directory or Hub id of a text encoder, or of a CLIP"})
    train_encoder: bool = field(default=False, metadata={"help": "the encoder trains too, as in the published reward"})
    width: int = field(default=512, metadata={"help": "hidden units of the head"})

    # > Defaults of transformers that do not suit
    metric_for_best_model: str | None = field(
        default="accuracy", metadata={"help": "validation measure that chooses `final/`: accuracy, loss …"}
    )
    num_train_epochs: float = field(default=1.0, metadata={"help": "one goes through `negatives` forms a caption"})

    def __post_init__(self) -> None:
        if self.greater_is_better is None:
            self.greater_is_better = self.metric_for_best_model != "loss"
        super().__post_init__()
        require(bool(self.data), "data", self.data, "the path of captions (--data captions.json)")
        require(bool(self.encoder), "encoder", self.encoder, "a text encoder (--encoder DIR|ID)")
        for key in ("negatives", "width", "max_eval_captions"):
            value = getattr(self, key)
            require(value is None or value > 0, key, value, "1 or more")


@dataclass(frozen=True)
class Corpus:
    """Captions in their normal form that can be broken, all of them for telling what is real, and their words."""

    captions: tuple[str, ...]
    real: frozenset[str]
    vocabulary: tuple[str, ...]

    @classmethod
    def of(cls, captions: Sequence[str]) -> "Corpus":
        """The corpus of captions as written. Raises ValueError where none of them can be broken."""
        normal = [normal_form(caption) for caption in captions]
        usable = tuple(caption for caption in normal if can_be_corrupted(caption.split()))
        if not usable:
            raise ValueError(
                f"none of {len(normal)} captions has two different words: nothing can be learned from them"
            )
        return cls(usable, frozenset(normal), tuple(sorted({word for caption in usable for word in caption.split()})))

    def broken(self, caption: str, kind: str, seed: str) -> str:
        """A broken form of a caption; drawn anew, a few times, where it happens to be one of the real captions."""
        for draw in range(10):
            result = " ".join(corrupt(caption.split(), kind, f"{seed}-{draw}", self.vocabulary))
            if result not in self.real:
                break
        return result


class Pairs(Dataset):
    """(caption, REAL) and (a broken form of it, number of the kind), `negatives` of these pairs a caption.

    Item i is a function of the seed and i alone, so the same in every epoch, and a resumed run sees what an
    uninterrupted one sees.
    """

    def __init__(self, corpus: Corpus, negatives: int, seed: int) -> None:
        self.corpus, self.negatives, self.seed = corpus, negatives, seed

    def __len__(self) -> int:
        return len(self.corpus.captions) * self.negatives

    def __getitem__(self, i: int) -> list[tuple[str, int]]:
        caption = self.corpus.captions[i % len(self.corpus.captions)]
        kind = int(np.random.default_rng([self.seed, i]).integers(len(KINDS)))
        return [(caption, REAL), (self.corpus.broken(caption, KINDS[kind], f"{self.seed}-{i}"), kind)]


class EveryKind(Dataset):
    """Captions to evaluate: each real once and broken once in every way, as lists of one (text, kind)."""

    def __init__(self, corpus: Corpus, limit: int | None, seed: int) -> None:
        chosen = corpus.captions
        if limit is not None and len(chosen) > limit:
            chosen = tuple(chosen[i * len(chosen) // limit] for i in range(limit))
        self.items = [[(caption, REAL)] for caption in chosen]
        self.items += [
            [(corpus.broken(caption, kind, f"{seed}-{i}-{kind}"), number)]
            for i, caption in enumerate(chosen)
            for number, kind in enumerate(KINDS)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> list[tuple[str, int]]:
        return self.items[i]


class GrammarTrainer(RewardTrainer):
    """Cross-entropy of (broken, real)."""

    args: GrammarArguments

    def __init__(self, model: GrammarModel, args: GrammarArguments, train: Corpus, val: Corpus | None = None) -> None:
        model.encoder.requires_grad_(args.train_encoder)
        super().__init__(
            model,
            args,
            data_collator=self._collate,
            train_dataset=Pairs(train, args.negatives, args.seed),
            eval_dataset=None if val is None else EveryKind(val, args.max_eval_captions, args.seed),
            compute_metrics=accuracies,
        )

    def _collate(self, items: Sequence[list[tuple[str, int]]]) -> dict[str, Any]:
        flat = [pair for item in items for pair in item]
        kinds = torch.tensor([kind for _, kind in flat])
        rows = [{"caption": text, "kind": "real" if kind == REAL else KINDS[kind]} for text, kind in flat]
        return {**self._bare().tokenize([text for text, _ in flat]), "labels": kinds, "rows": rows}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Cross-entropy, averaged over the batch; `labels` are REAL or the kind of corruption."""
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = nn.functional.cross_entropy(logits, (inputs["labels"] == REAL).long())
        return (loss, {"logits": logits}) if return_outputs else loss


def accuracies(found: EvalPrediction) -> dict[str, float]:
    """Percent right: `accuracy_real`, `accuracy_<kind>`, and `accuracy`, where real and broken weigh the same."""
    logits, kinds = np.asarray(found.predictions), np.asarray(found.label_ids)
    said_real = logits[:, 1] >= logits[:, 0]
    measured = {"accuracy_real": 100 * float(said_real[kinds == REAL].mean())}
    for number, kind in enumerate(KINDS):
        measured[f"accuracy_{kind}"] = 100 * float((~said_real[kinds == number]).mean())
    broken = sum(measured[f"accuracy_{kind}"] for kind in KINDS) / len(KINDS)
    return {"accuracy": (measured["accuracy_real"] + broken) / 2, **measured}
