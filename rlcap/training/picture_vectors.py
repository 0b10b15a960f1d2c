"""What a frozen vision tower makes of pictures before its projection: once, and kept on the disk."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import torch
from PIL import Image
from torch import Tensor, nn

from captioners.frames import frame_features
from captioners.preprocess import Visual, as_pixel_values
from captioners.vision import GridVision, grid, image_preprocessor
from rewards.dual_encoder import DualEncoder
from rewards.transformers_encoder import TransformersEncoder
from rlcap.data.features import FeatureStore
from rlcap.data.write_features import stored_features, write_features


class _Sees(nn.Module):
    """A dual encoder's vision tower as `write_features` wants it: a vector a frame, as a grid of one position."""

    def __init__(self, encoder: DualEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def preprocessor(self, visuals: Sequence[Visual]) -> dict[str, Tensor]:
        return as_pixel_values(visuals, self.encoder.preprocess)

    def parts(self) -> dict[str, list[nn.Module]]:
        return {"vision": [VisionTower(self.encoder)]}

    def features(self, visual: dict[str, Tensor]) -> Tensor:
        return frame_features(lambda pixels: self.encoder.pool_images(pixels)[:, None], visual, torch.float32)


class VisionTower(nn.Module):
    """The parameters and buffers of a dual encoder's vision tower alone, for their hash."""

    def __init__(self, encoder: DualEncoder) -> None:
        super().__init__()
        for name, tensor in encoder.state_dict().items():
            if encoder.part_of(name) == "vision":
                self.register_buffer(name.replace(".", "_"), tensor)


def picture_vectors(
    encoder: DualEncoder, dataset: datasets.Dataset, folder: Path, *, batch_size: int, workers: int, max_bad: float
) -> FeatureStore:
    """The store in `folder` of the vectors of all rows, [F, 1, P] each; what is missing is written.

    In half precision. A killed run goes on. Processes share the work, and each waits for the others. Raises ValueError
    where `folder` holds the vectors of another tower, and for more bad pictures than the share `max_bad`.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    made_with = {"activations": _activations(encoder)}
    write_features(_Sees(encoder), dataset, folder, batch_size, workers, rank, world, max_bad, made_with=made_with)
    if distributed:
        torch.distributed.barrier()
    store = FeatureStore(folder)
    store.require(dataset["image_id"])
    return store


def _activations(encoder: DualEncoder) -> str:
    """The classes of the modules without weights: the weights do not tell QuickGELU from GELU."""
    leaves = (own for own in encoder.modules() if not any(own.children()) and not any(own.state_dict()))
    return "+".join(sorted({type(own).__name__ for own in leaves}))


def grid_features(encoder: DualEncoder, path: str, dataset: datasets.Dataset, folder: str) -> FeatureStore:
    """The grids that `rlcap features --vision PATH` wrote into `folder`; of a ResNet their means are what it pools.

    path: where the vision tower, or the dual encoder, is from. Raises ValueError where the grids are of other weights,
    pictures are missing, or the mean of a grid is not what the tower pools.
    """
    if not isinstance(encoder, TransformersEncoder):
        raise ValueError(f"features are of models of transformers, which {encoder.source['backbone']} is not")
    vision = GridVision(encoder.model.vision_model, image_preprocessor(path))
    store = stored_features(folder, vision, dataset)
    noise = torch.rand(1, *vision.preprocessor([Image.new("RGB", (64, 64))])["pixel_values"].shape[1:])
    with torch.inference_mode():
        pooled = encoder.pool_images(noise.to(encoder.device))
        mean = grid(encoder.model.vision_model, noise.to(encoder.device)).mean(dim=1)
    if mean.shape != pooled.shape or not torch.allclose(mean, pooled, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"{folder} holds grids whose mean is not what this vision tower pools; leave features out: vectors are "
            "then written into picture_vectors"
        )
    return store


def stored_vectors(store: FeatureStore, image_id: str) -> Tensor:
    """The pooled vectors [F, P] of a row's frames in float32; of a stored grid the mean over its positions."""
    return torch.from_numpy(store[image_id]).float().mean(dim=1)
