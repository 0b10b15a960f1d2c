"""The reference of ranking-DPO and of KL penalties: what the captioner said when the training began."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from captioners.base import Captioner
from captioners.types import CaptionTokens, VisualContext
from rlcap.captioning import evaluating
from rlcap.chain_scoring import LogProbs
from rlcap.training.sharded import will_shard

Visual = dict[str, Tensor] | VisualContext
UNREAD = "could not be decoded when the reference was stored; the next start tries it again"


def frozen_copy(captioner: Captioner, accelerator: Accelerator) -> Captioner:
    """The captioner as it is now, in eval mode, whole on every rank; what never trains is shared, not copied.

    To be made before accelerate prepares the captioner. Where that will share weights out over ranks, all are copied.
    """
    if will_shard(accelerator):
        return copy.deepcopy(captioner).to(accelerator.device).requires_grad_(False).eval()
    shared = {
        id(module): module
        for part, modules in captioner.parts().items()
        if part in captioner.frozen
        for module in modules
    }
    kept = {id(parameter): parameter for parameter in captioner.parameters() if not parameter.requires_grad}
    reference = copy.deepcopy(captioner, memo=shared | kept)
    return reference.to(accelerator.device).requires_grad_(False).eval()


@contextmanager
def placed(captioner: Captioner, device: torch.device) -> Iterator[None]:
    """The captioner, whole, on `device` for the length of the block, and then where it was.

    Under FSDP2, DeepSpeed and bf16_full_eval transformers leaves it on the CPU until the training begins. It goes back,
    so that no whole copy is in the device's memory when shards are made of it.
    """
    before = captioner.device
    captioner.to(device)
    try:
        yield
    finally:
        captioner.to(before)


class FrozenCopy:
    """A second captioner in memory that shares with the first what does not train."""

    def __init__(self, captioner: Captioner, accelerator: Accelerator) -> None:
        self._copy = frozen_copy(captioner, accelerator)

    def log_probs(self, rows: Sequence[Mapping[str, Any]], visual: Visual, captions: CaptionTokens) -> Tensor:
        """Those of a batch's captions `[B, K, L]`, without gradient, 0 where no token is scored; as all of these do."""
        with torch.no_grad():
            return self._copy(visual, captions).log_probs

    @contextmanager
    def captioner(self) -> Iterator[Captioner]:
        """The copy."""
        yield self._copy


class AdaptersOff:
    """The captioner itself with its adapters switched off: LoRA's matrices, and copies in peft's `modules_to_save`.

    Raises ValueError naming parameters that train and are in no adapter: they would change the reference too.
    """

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        adapted = {
            id(parameter)
            for layer in _adapters(captioner)
            for name in layer.adapter_layer_names
            for parameter in getattr(layer, name).parameters()
        }
        outside = [name for name, p in captioner.named_parameters() if p.requires_grad and id(p) not in adapted]
        if outside or not adapted:
            named = f"{len(outside)} parameters outside of adapters train: {', '.join(outside[:5])}"
            raise ValueError(
                "reference is 'adapters_off', but "
                + (named if outside else "this captioner has no adapters")
                + ". With adapters switched off the captioner is its own reference only where nothing else trains: "
                "give every part that trains LoRA (lora_parts) and freeze the others, or set reference: frozen_copy, "
                "which copies only what trains"
            )

    def log_probs(self, rows: Sequence[Mapping[str, Any]], visual: Visual, captions: CaptionTokens) -> Tensor:
        """As FrozenCopy's."""
        with self.captioner() as plain, evaluating(plain):
            return plain(visual, captions).log_probs

    @contextmanager
    def captioner(self) -> Iterator[Captioner]:
        """The captioner without its adapters."""
        trained = {p: p.requires_grad for p in self._captioner.parameters()}
        layers = _adapters(self._captioner)
        try:
            for layer in layers:
                layer.enable_adapters(False)
            yield self._captioner
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            for parameter, requires_grad in trained.items():  # peft lets all adapters train again
                parameter.requires_grad_(requires_grad)


class Stored:
    """Log-probabilities computed before the training: no second model, and nothing to compute.

    chains: those of each row of the training set, by the row's `position`; None for pictures that could not be decoded.
    """

    def __init__(self, chains: Sequence[LogProbs | None]) -> None:
        self._chains = chains

    def collator(self, collate: Callable[[list[Any]], dict[str, Any]]) -> "Referenced":
        """A VisualCollator that leaves out the rows for which nothing is stored."""
        return Referenced(collate, frozenset(k for k, chain in enumerate(self._chains) if chain is None))

    def log_probs(self, rows: Sequence[Mapping[str, Any]], visual: Visual, captions: CaptionTokens) -> Tensor:
        """As FrozenCopy's, looked up by the rows; ValueError where others are stored for them."""
        values = torch.zeros(captions.ids.shape, dtype=torch.float32)
        for b, row in enumerate(rows):
            chain = self._chains[row["position"]]
            lengths = captions.mask[b].sum(-1)[captions.caption_mask[b]].tolist()
            if chain is None:
                raise ValueError(f'no reference is stored of a chain of "{row["image_id"]}": {UNREAD}')
            if [len(own) for own in chain] != lengths:
                raise ValueError(
                    f'what is stored as the reference of a chain of "{row["image_id"]}" is of other captions'
                )
            for k, own in enumerate(chain):
                values[b, k, : len(own)] = own
        return values.to(captions.ids.device)


class Referenced:
    """Collates rows, and leaves out those `without` a reference, by their `position`, as bad; picklable."""

    def __init__(self, collate: Callable[[list[Any]], dict[str, Any]], without: frozenset[int]) -> None:
        self._collate, self._without = collate, without

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the collator returns for the rows with a reference; `bad` has the others too."""
        batch = self._collate([row for row in rows if row["position"] not in self._without])
        bad = [(f'the picture of "{row["image_id"]}"', UNREAD) for row in rows if row["position"] in self._without]
        return {**batch, "bad": [*batch["bad"], *bad]}


Reference = FrozenCopy | AdaptersOff | Stored


def _adapters(captioner: Captioner) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return [m for m in captioner.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]
