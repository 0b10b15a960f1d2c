"""Rewards whose pictures are known from `rlcap features`: campaigns of many runs encode no photograph twice.

A folder of features holds the grids of a frozen vision model; their means are what a ResNet pools. Where a reward's
vision tower is that very model, its vectors follow from them, up to the half precision of the store. Beside this file,
in a recipe: `rewards: ["stored_pictures:dual_encoder"]`.
"""

from typing import Any

import torch

import rewards
from rewards import Reward
from rlcap.data.features import FeatureStore
from rlcap.training.picture_vectors import stored_vectors


def dual_encoder(*, reward: str, backbone: str, features: str, **options: Any) -> Reward:
    """The reward `reward` (clip-s, ref-pac-s …) of a dual encoder that was trained on these features.

    Raises ValueError where `features` holds none.
    """
    scorer: Any = rewards.load(reward, backbone=backbone, **options)
    encoder = scorer.features.encoder
    store = FeatureStore(features)
    with torch.inference_mode():
        for image_id in store:
            scorer.features.remember(image_id, _unit(encoder.project_pooled_images(stored_vectors(store, image_id))))
    return scorer


def comparative(*, path: str, features: str, **options: Any) -> Reward:
    """The reward `comparative`, whose picture encoder made these features. Raises ValueError as `dual_encoder`."""
    scorer: Any = rewards.load("comparative", path=path, **options)
    store = FeatureStore(features)
    for image_id in store:
        scorer.remember(image_id, stored_vectors(store, image_id).mean(0))
    return scorer


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
