"""The rows of ranking-DPO: chains as a recipe names them, checked, and the pictures that evaluation captions."""

from typing import Any, NamedTuple

import datasets

from captioners.base import Captioner
from rlcap.console import progress
from rlcap.data import load_captions, load_chains
from rlcap.data.rows import shown
from rlcap.data.tables import with_columns
from rlcap.training.ranking_arguments import ChainDataArguments

CHECKED_AT_ONCE = 1000  # chains
NAMED = 5  # chains named in a message


def load_chain_splits(data: ChainDataArguments, evaluated: bool) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """The chains to train on, and those to evaluate on where the run is evaluated."""
    train = _chains(data, data.data, data.images, data.pictures, data.train_split, data.max_train_images)
    if not evaluated:
        return train, None
    source, images = data.val_data or data.data, data.val_images or (None if data.val_data else data.images)
    pictures = data.val_pictures or data.pictures
    return train, _chains(data, source, images, pictures, data.val_split, data.max_val_images)


def _chains(
    data: ChainDataArguments, source: str, images: str | None, pictures: str | None, split: str, most: int | None
) -> datasets.Dataset:
    """The chains of a split; of the first `most` pictures where that is set."""
    options: dict[str, Any] = {"check_images": data.features is None, "video_frames": data.video_frames}
    ignore = data.ignore_prompts
    if pictures is None:
        chains = load_chains(source, images=images, split=split, columns=data.columns, ignore_prompts=ignore, **options)
    else:
        held = load_captions(pictures, images=images, format=data.data_format, columns=data.columns, **options)
        chains = load_chains(source, pictures=held, split=split, ignore_prompts=ignore, **options)
    if most is None:
        return chains
    first = set(list(dict.fromkeys(chains["image_id"]))[:most])
    return chains.select([row for row, image_id in enumerate(chains["image_id"]) if image_id in first])


class ChainTokens(NamedTuple):
    """Captions of chains: how many there are and are cut, and the tokens of the longest best one, EOS included."""

    captions: int
    cut: int
    longest_best: int


def check_chains(
    captioner: Captioner, dataset: datasets.Dataset, max_caption_length: int, *, bar: bool = True
) -> ChainTokens:
    """Counts the tokens of chains as the captioner reads them, cut at `max_caption_length`.

    Raises ValueError with the number of the chains of which two captions are then the same, and the first of them: such
    captions have no order that could be learned.
    """
    chains = dataset.select_columns(["image_id", "captions"])
    captions, cut, longest_best = 0, 0, 0
    same: list[str] = []
    with progress(total=len(chains), desc="checking chains", unit="chain", leave=False, disable=not bar) as checked:
        for start in range(0, len(chains), CHECKED_AT_ONCE):
            batch = chains[start : start + CHECKED_AT_ONCE]
            tokens = captioner.tokenize(batch["captions"], max_caption_length)
            captions += int(tokens.caption_mask.sum())
            cut += int((tokens.caption_mask & ~tokens.finished).sum())
            longest_best = max(longest_best, int(tokens.mask[:, 0].sum(dim=1).max()))
            for image_id, texts, ids, mask in zip(
                batch["image_id"], batch["captions"], tokens.ids, tokens.mask, strict=True
            ):
                pair = _same_pair(texts, [tuple(own[there].tolist()) for own, there in zip(ids, mask, strict=True)])
                if pair is not None:
                    same.append(f'"{image_id}": {shown(pair[0])} and {shown(pair[1])}')
            checked.update(len(batch["image_id"]))
    if same:
        raise ValueError(
            f"{len(same)} of {len(chains)} chains have two captions that are the same to this captioner, which reads "
            f"{max_caption_length} tokens of each ({cut} of {captions} captions are cut; max_caption_length, at most "
            f"{captioner.codec.limit}). Leave such chains out: {'; '.join(same[:NAMED])}"
        )
    return ChainTokens(captions, cut, longest_best)


def _same_pair(captions: list[str], tokens: list[tuple[int, ...]]) -> tuple[str, str] | None:
    seen: dict[tuple[int, ...], str] = {}
    for caption, own in zip(captions, tokens, strict=False):
        if own in seen:
            return seen[own], caption
        seen[own] = caption
    return None


def captioned_pictures(chains: datasets.Dataset) -> datasets.Dataset:
    """Each picture of the chains once, with `references`: those of its rows, else the best captions of its chains."""
    first: dict[str, int] = {}
    references: dict[str, list[str]] = {}
    columns = [name for name in ("image_id", "captions", "references") if name in chains.column_names]
    for position, row in enumerate(chains.select_columns(columns)):
        first.setdefault(row["image_id"], position)
        known = references.setdefault(row["image_id"], [])
        known += [text for text in row.get("references") or row["captions"][:1] if text not in known]
    dropped = [name for name in ("captions", "kinds", "prompt", "references") if name in chains.column_names]
    # Selected last: columns beside selected rows would copy them.
    whole: list[list[str]] = [[]] * len(chains)
    for image_id, position in first.items():
        whole[position] = references[image_id]
    pictures = with_columns(chains.remove_columns(dropped), datasets.Dataset.from_dict({"references": whole}))
    return pictures.select(list(first.values()))
