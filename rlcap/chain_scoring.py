"""Chains scored by a captioner: the loop that evaluation, the reference of ranking-DPO and `rlcap rank-eval` share."""

from collections.abc import Iterator, Sequence

import datasets
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from captioners.base import Captioner
from captioners.types import CaptionTokens
from rlcap.captioning import evaluating, nothing, to_device
from rlcap.console import progress
from rlcap.data.blind import Blanked, ControlledRows
from rlcap.data.collate import VisualCollator
from rlcap.data.features import FeatureStore
from rlcap.data.images import BadImageCounter
from rlcap.launching.workers import stay_with_rank

LogProbs = list[Tensor]
"""Of a chain: the log-probabilities of each caption's tokens [L_k], EOS included, in fp32 on the CPU."""


def score_chains(
    captioner: Captioner,
    dataset: datasets.Dataset,
    *,
    max_caption_length: int | None,
    features: FeatureStore | None = None,
    batch_size: int = 32,
    workers: int = 0,
    max_bad_images: float = 0.01,
    control: str = "true",
    seed: int = 0,
    positions: Sequence[int] | None = None,
    share_of: int | None = None,
    bar: str | None = "chains",
) -> Iterator[tuple[int, LogProbs | None]]:
    """Scores chains (a column `captions`) in eval mode; yields their positions in the data set and log-probabilities.

    Every chain's picture is encoded once. None stands for a chain whose picture cannot be decoded; ValueError where
    these are more than the share `max_bad_images` of `share_of` chains, None for those scored here. control, seed: see
    `rlcap.data.blind`. positions: the rows to score, None for all. max_caption_length: most tokens of a caption, None
    for what the captioner takes. bar: what the progress bar is called, None for no bar.
    """
    rows = ControlledRows(dataset, control, seed=seed, features=features)
    if control == "blank":
        collate = VisualCollator(Blanked(captioner.preprocessor))
    else:
        collate = VisualCollator(captioner.preprocessor, features)
    wanted = list(range(len(dataset)) if positions is None else positions)
    loader: DataLoader = DataLoader(
        Subset(rows, wanted),
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=stay_with_rank,
    )
    counter = BadImageCounter(len(wanted) if share_of is None else share_of, max_bad_images)
    done = iter(wanted)
    for batch in progress(loader, desc=bar or "", unit="batch", leave=False, disable=bar is None):
        counter.extend(batch["bad"])
        scored: dict[int, LogProbs] = {}
        if batch["visual"] is not None:
            captions = captioner.tokenize([row["captions"] for row in batch["rows"]], max_caption_length)
            captions = captions.to(captioner.device)
            with evaluating(captioner):  # not around the loop: what happens between batches is not ours
                scores = captioner(to_device(batch["visual"], captioner.device), captions)
            chains = unpadded(scores.log_probs, captions)
            scored = {row["position"]: chain for row, chain in zip(batch["rows"], chains, strict=True)}
        elif captioner.synchronised:  # the other ranks wait for this one
            with evaluating(captioner):
                captioner(*nothing(captioner))
        for _ in range(len(batch["rows"]) + len(batch["bad"])):
            position = next(done)
            yield position, scored.get(position)


def unpadded(log_probs: Tensor, captions: CaptionTokens) -> list[LogProbs]:
    """Log-probabilities `[B, K, L]` as a list a chain, of the captions and tokens that are there alone."""
    values, masks = log_probs.detach().float().cpu(), captions.mask.cpu()
    return [
        [own[mask] for own, mask, there in zip(chain, chain_masks, present, strict=True) if there]
        for chain, chain_masks, present in zip(values, masks, captions.caption_mask.tolist(), strict=True)
    ]


def caption_scores(chain: LogProbs, normalization: str) -> list[float]:
    """A score a caption: its log-probability summed over its tokens (`token`), or averaged over them (`sequence`)."""
    return [float(own.double().mean() if normalization == "sequence" else own.double().sum()) for own in chain]
